"""The watch, common and server lists: files that people keep, as sets that answer at once."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import logging
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union

from dnsqmon.core.errors import ConfigError
from dnsqmon.score.list_file import Skipped, cells, domain_names, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
AnyList = TypeVar("AnyList", "DomainList", "ServerList")

log = logging.getLogger(__name__)


class Lists:
    """The lists that were asked for; one that was not is None."""

    def __init__(
        self,
        watch: DomainList | None = None,
        common: DomainList | None = None,
        server: ServerList | None = None,
    ) -> None:
        self.watch = watch
        self.common = common
        self.server = server
        self._looked = float("-inf")
        self._complaints: dict[str, str] = {}

    @classmethod
    def load(
        cls, *, watch: str | None = None, common: str | None = None, server: str | None = None
    ) -> Lists:
        """Load the lists from their paths; a file that cannot be read raises ConfigError."""
        return cls(
            None if watch is None else DomainList.load(watch, "watch"),
            None if common is None else DomainList.load(common, "common"),
            None if server is None else ServerList.load(server, "server"),
        )

    def reload_if_changed(self, now: float, *, force: bool = False) -> bool:
        """Load again each list whose file is another one now; say whether any was replaced.

        `now` is monotonic seconds: the files are looked at once a second at most. With `force`
        they are loaded at once, changed or not. A list is replaced when the new one is whole; one
        whose file cannot be read stays in use, and the log says so once.
        """
        if not force and now - self._looked < 1:
            return False
        self._looked = now
        before = (self.watch, self.common, self.server)
        self.watch = self._newer(self.watch, force=force)
        self.common = self._newer(self.common, force=force)
        self.server = self._newer(self.server, force=force)
        return before != (self.watch, self.common, self.server)

    def _newer(self, current: AnyList | None, *, force: bool) -> AnyList | None:
        """Return the list as its file is now, or the current one."""
        if current is None or not (force or current.is_stale()) or not current.is_regular:
            return current
        try:
            newer = type(current).load(current.path, current.name)
        except ConfigError as error:
            if force or self._complaints.get(current.name) != str(error):
                log.error("%s; the list loaded before stays in use", error)
                self._complaints[current.name] = str(error)
            return current
        self._complaints.pop(current.name, None)
        log.info("%s: loaded again, %d entries", newer.path, newer.count)
        return newer


class ListFile:
    """What is known of a list, and of the state of its file that was read."""

    def __init__(self, path: str, name: str, status: os.stat_result, data: bytes) -> None:
        self.path = path
        self.name = name
        self.mtime_ns = status.st_mtime_ns
        self.size = len(data)
        #: The first 16 hexadecimal digits of the SHA-256 of the file.
        self.sha256 = hashlib.sha256(data).hexdigest()[:16]
        #: Seconds since the epoch.
        self.loaded_at = time.time()
        #: A pipe, for one, can be read only once.
        self.is_regular = stat.S_ISREG(status.st_mode)
        self._state = _state(status)
        skipped = Skipped(path)
        # utf-8-sig leaves a byte order mark out; what is not UTF-8 becomes surrogates, which the
        # reader of the entries refuses line by line.
        self._fill(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape"), skipped)
        #: `path:line: reason` of the first lines that could not be read, and how many there were.
        self.skipped = skipped.lines
        self.skipped_count = skipped.count
        for message in skipped.messages():
            log.warning("%s", message)

    @classmethod
    def load(cls, path: str, name: str) -> Self:
        """Read `path`, the value of the setting `--<name>list`, or raise ConfigError."""
        try:
            with Path(path).open("rb") as file:
                status, data = os.fstat(file.fileno()), file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"--{name}list {path}: {reason}; name a file that can be read"
            ) from error
        return cls(path, name, status, data)

    def is_stale(self) -> bool:
        """Say whether the path leads to another state of the file, or nowhere."""
        try:
            return _state(Path(self.path).stat()) != self._state
        except OSError:
            return True

    @property
    def count(self) -> int:
        """How many different entries the list holds."""
        raise NotImplementedError

    def _fill(self, lines: io.TextIOWrapper, skipped: Skipped) -> None:
        """Take the entries of the file."""
        raise NotImplementedError


class DomainList(ListFile):
    """A set of whole names; neither a parent domain nor a wildcard stands for what is below it."""

    names: frozenset[str]

    @property
    def count(self) -> int:
        """How many different names the list holds."""
        return len(self.names)

    def _fill(self, lines: io.TextIOWrapper, skipped: Skipped) -> None:
        self.names = frozenset(domain_names(cells(numbered(lines), "domain", skipped), skipped))


class ServerList(ListFile):
    """Addresses, and networks of addresses, of known DNS servers."""

    addresses: frozenset[Address]
    networks: list[Network]

    @property
    def count(self) -> int:
        """How many different addresses and networks the list holds."""
        return len(self.addresses) + len(self.networks)

    def contains(self, text: str) -> bool:
        """Say whether the address, in any spelling, is listed or in a listed network.

        Costs microseconds, so keep the answer. What is no address is not listed.
        """
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return address in self.addresses or any(address in network for network in self.networks)

    def _fill(self, lines: io.TextIOWrapper, skipped: Skipped) -> None:
        networks = set(_networks(cells(numbered(lines), "ip", skipped), skipped))
        single = {network for network in networks if network.prefixlen == network.max_prefixlen}
        self.addresses = frozenset(network.network_address for network in single)
        self.networks = list(networks - single)


def _networks(entries: Iterator[tuple[int, str]], skipped: Skipped) -> Iterator[Network]:
    """Yield what each entry names as a network; an address is one of a single address."""
    for number, entry in entries:
        if "%" in entry:
            skipped.add(number, "packets carry no zone, leave % and what follows out")
            continue
        try:
            yield _unmapped(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            skipped.add(number, "not an IP address or network (CIDR)")


def _unmapped(network: Network) -> Network:
    """Turn IPv4-mapped IPv6, ::ffff:a.b.c.d, into the IPv4 that it is (RFC 4291, 2.5.5.2)."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Return what tells one state of a file from another."""
    return status.st_mtime_ns, status.st_size, status.st_ino
