"""Datagrams of other dnsqmon to records."""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Union

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.pace import Complaints
from dnsqmon.relay.guard import Guard
from dnsqmon.relay.wire import SIGNED_TAG, TAG, Reader, Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.core.record import Record

log = logging.getLogger(__name__)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

#: The kernel's buffer to ask for: a second of 50,000 datagrams, with what the kernel adds to each.
RECEIVE_BUFFER = 64 * 1024 * 1024
#: The most datagrams of a batch; after fewer than FEW, more are let gather for PAUSE seconds.
BATCH, FEW, PAUSE = 5000, 50, 0.02
#: Seconds that what is in the kernel's buffer at the end may take.
LAST_SECONDS = 1.0
#: A client's datagram is shorter; of a longer one the end is cut off, and so it is refused.
LONGEST = 4096
#: Senders that refusals are counted for one by one; all others are counted as `others`.
MOST_SENDERS = 1000
#: How many of those are told at the end.
MOST_TOLD = 20


class RelayBatch(NamedTuple):
    """Records that were scored elsewhere, in the order in which they came; may be empty."""

    records: list[Record]


class RelayServer:
    """A source of records: what clients send to a UDP address.

    Only senders in one of the networks `allow` are heard; with a `key`, only signed datagrams.
    What the kernel's buffer lost while the sinks were slow is counted. The constructor may raise
    ConfigError.
    """

    name = "relay"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allow: Sequence[Network] = (),
        key: bytes | None = None,
        utc: bool = False,
    ) -> None:
        self._socket = _listen(host, port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._senders = _Senders(allow)
        self._reader = Reader(utc=utc)
        self._guard = Guard(key) if key else None
        self._refused: Counter[tuple[str, str]] = Counter()
        self._complaints = Complaints(log)
        self._dropped = 0
        self._stopping = False

    def batches(self) -> Iterator[RelayBatch]:
        """Yield what came, at least twice a second, until `stop`; then what is left."""
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        while not self._stopping:
            records = self._receive() if readable.poll(500) else []
            yield RelayBatch(records)
            if 0 < len(records) < FEW:
                time.sleep(PAUSE)
        # What came before the end is taken; a flood that goes on does not put the end off.
        until = time.monotonic() + LAST_SECONDS
        while readable.poll(0) and time.monotonic() < until:
            yield RelayBatch(self._receive())

    def losses(self) -> Mapping[str, int]:
        """Count datagrams that gave no record: each `Refusal`, and what was overrun.

        `kernel_buffer` came while this machine or its sinks were too slow; `on_the_way` never came
        (known of signing clients only).
        """
        losses: Counter[str] = Counter()
        for (_, reason), count in self._refused.items():
            losses[reason] += count
        losses["kernel_buffer"] = self._kernel_drops()
        losses["on_the_way"] = sum(self.lost_on_the_way().values())
        return losses

    def refused(self) -> Mapping[tuple[str, str], int]:
        """Count refused datagrams by sender and reason."""
        return dict(self._refused)

    def lost_on_the_way(self) -> Mapping[str, int]:
        """Count, by client, the signed datagrams that never came (see Guard.lost)."""
        return self._guard.lost() if self._guard else {}

    def counts(self) -> Mapping[str, int]:
        """Count nothing more."""
        return {}

    def stop(self) -> None:
        """Make `batches` end; called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Close the socket, and tell of whom datagrams were refused or lost, the worst first."""
        self._dropped = self._kernel_drops()
        self._socket.close()
        for (sender, reason), count in self._refused.most_common()[:MOST_TOLD]:
            log.info("relay server: refused %d datagrams of %s: %s", count, sender, reason)
        lost = Counter(self.lost_on_the_way())
        for sender, count in lost.most_common()[:MOST_TOLD]:
            if count:
                log.info("relay server: %d datagrams of %s never came", count, sender)

    def _receive(self) -> list[Record]:
        """Read the datagrams that came, at most BATCH."""
        receive, allowed = self._socket.recvfrom, self._senders.name_if_allowed
        records = []
        for _ in range(BATCH):
            try:
                datagram, address = receive(LONGEST)
            except BlockingIOError:
                break
            except OSError as error:  # what the kernel says of an earlier datagram
                log.warning("relay server: %s", error)
                break
            sender = allowed(address[0])
            if sender is None:
                self._refuse(address[0], Refusal.NOT_ALLOWED)
                continue
            try:
                records.append(self._reader.record(self._line(datagram, sender)))
            except RefusedError as error:
                self._refuse(sender, error.reason)
        return records

    def _line(self, datagram: bytes, sender: str) -> bytes:
        if datagram.startswith(SIGNED_TAG):
            if self._guard is None:
                raise RefusedError(Refusal.SIGNED)
            return self._guard.open(datagram, sender)
        if not datagram.startswith(TAG):
            raise RefusedError(Refusal.NO_TAG)
        if self._guard is not None:
            raise RefusedError(Refusal.UNSIGNED)
        return datagram[len(TAG) :]

    def _refuse(self, sender: str, reason: Refusal) -> None:
        key = (sender, reason.name.lower())
        if key not in self._refused and len(self._refused) >= MOST_SENDERS:
            key = ("others", key[1])
        self._refused[key] += 1
        self._complaints.say(f"relay server: a datagram of {sender} is refused: {reason.value}")

    def _kernel_drops(self) -> int:
        """Ask the socket: SO_MEMINFO's SK_MEMINFO_DROPS, linux/sock_diag.h."""
        if self._socket.fileno() < 0:
            return self._dropped
        values = struct.unpack("9I", self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
        return int(values[8])


class _Senders:
    """The addresses that may send, each looked up in the networks once."""

    def __init__(self, allow: Sequence[Network]) -> None:
        self._allow = allow
        self._known: dict[str, str | None] = {}

    def name_if_allowed(self, address: str) -> str | None:
        """Return the address as it is counted, or None where it may not send."""
        try:
            return self._known[address]
        except KeyError:
            if len(self._known) >= 65536:
                self._known.clear()
            name = self._known[address] = self._judge(address)
            return name

    def _judge(self, address: str) -> str | None:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = parsed.ipv4_mapped if parsed.version == 6 else None
        parsed = mapped or parsed
        if self._allow and not any(parsed in network for network in self._allow):
            return None
        return str(parsed)


#: From asm-generic/socket.h.
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"--server {host}: {error}; give an address of this machine") from error
    server = socket.socket(family, kind, protocol)
    try:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _enlarge(server)
        server.setblocking(False)
        server.bind(address)
    except OSError as error:
        server.close()
        raise ConfigError(
            f"--server {host}, port {port}: cannot listen ({error.strerror}); choose another"
        ) from error
    return server


def _enlarge(server: socket.socket) -> None:
    """Get a large receive buffer: any size with CAP_NET_ADMIN, else what the system allows."""
    try:
        server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    granted = server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if granted < RECEIVE_BUFFER:
        log.warning(
            "relay server: the system grants a receive buffer of %d kB; bursts can be lost, and "
            "are counted. To raise it: sysctl net.core.rmem_max=%d",
            granted // 1024,
            RECEIVE_BUFFER,
        )
