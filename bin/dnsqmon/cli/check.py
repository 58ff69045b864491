"""Settings in, what is wrong with the place they are to work in out: `dnsqmon check`."""

from __future__ import annotations

import logging
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from dnsqmon.assembly.assemble import file_name, open_interfaces
from dnsqmon.assembly.network import read_secrets, relay_server
from dnsqmon.core.errors import ConfigError
from dnsqmon.score.lists import DomainList, ServerList
from dnsqmon.score.profile import load_profile
from dnsqmon.sinks.datagram import Datagrams
from dnsqmon.sinks.destination import Unavailable
from dnsqmon.sinks.hec import Hec
from dnsqmon.sinks.stream import Stream, by_newline
from dnsqmon.sources import privileges
from dnsqmon.sources.capture_file import CaptureFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.assembly.network import Secrets
    from dnsqmon.config.settings import Settings
    from dnsqmon.score.lists import ListFile
    from dnsqmon.sinks.destination import Destination

log = logging.getLogger(__name__)


def check(settings: Settings, hec_token: str | None) -> bool:
    """Try what a run with these settings needs, with a line on each; say whether it can start.

    Interfaces are opened and closed again, then rights are dropped as in a run, so that files are
    tried as the user who will need them: call it in a process that ends after. Nothing is captured,
    written or sent; destinations are connected to. `hec_token` is the one that the environment has.
    ConfigError if the user or a secret is such that nothing else can be tried.
    """
    passed = True
    for what, find in _checks(settings, hec_token):
        try:
            finding = find()
        except ConfigError as error:
            passed = False
            log.error("%s: %s", what, error)
        else:
            sys.stdout.write(f"[+] {what}: {finding}\n")
            sys.stdout.flush()
    return passed


def _checks(settings: Settings, hec_token: str | None) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name what is to be checked, with a call that says what was found or raises ConfigError."""
    secrets: Secrets | None = None
    if settings.server or settings.client or settings.syslog or settings.hec:
        secrets = read_secrets(settings, hec_token)
    if settings.server and secrets:
        yield f"server {settings.server}", partial(_relay, settings, secrets)
    elif settings.interface:
        yield f"interface {', '.join(settings.interface)}", partial(_interfaces, settings)
    if settings.server or settings.interface:
        # Without this user's rights as in a run, nothing that follows would be a proof.
        privileges.drop(settings.user)
        privileges.check_library(settings.user)
    if settings.read and settings.read != "-":
        yield f"capture file {settings.read}", partial(_readable, settings.read)
    yield f"profile {settings.profile}", partial(_profile, settings.profile)
    lists: tuple[tuple[str, str | None, type[ListFile]], ...] = (
        ("watch", settings.watchlist, DomainList),
        ("common", settings.commonlist, DomainList),
        ("server", settings.serverlist, ServerList),
    )
    for name, path, kind in lists:
        if path:
            yield f"{name} list {path}", partial(_list, kind, path, name)
    for path in (file_name(settings), settings.json, settings.state, settings.stats_file):
        if path and path != "-":
            yield f"file {path}", partial(_writable, Path(path))
    if settings.spool_dir:
        yield (
            f"spool directory {settings.spool_dir}",
            partial(_spool_folder, Path(settings.spool_dir)),
        )
    if settings.metrics:
        yield "metrics", partial(_listen, *settings.metrics)
    if secrets:
        for destination in _destinations(settings, secrets):
            yield f"destination {destination.name}", partial(_reach, destination)


def _interfaces(settings: Settings) -> str:
    """Open the interfaces, which also takes the right, the filter and the memory."""
    open_interfaces(settings).close()
    return "can be captured"


def _relay(settings: Settings, secrets: Secrets) -> str:
    relay_server(settings, secrets).close()
    return f"port {settings.port} is free"


def _readable(path: str) -> str:
    """Open the capture; of a named pipe, which can be read but once, no more than the right."""
    if not Path(path).is_fifo():
        CaptureFile(path).close()
    elif not os.access(path, os.R_OK):
        raise ConfigError("it may not be read: name another file")
    return "can be read"


def _profile(name: str) -> str:
    load_profile(name)
    return "is whole"


def _list(kind: type[ListFile], path: str, name: str) -> str:
    """Load a list; the lines that are skipped are in the log already."""
    return f"{kind.load(path, name).count:,} entries"


def _writable(path: Path) -> str:
    """Say whether the file can be written, made if need be, without doing so."""
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no directory {folder}: make it, or name another")
    if path.is_dir():
        raise ConfigError(f"{path} is a directory: name a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(
            "the user who is to write it may not (see --user): change the owner of "
            f"{path if path.exists() else folder}, or name another file"
        )
    return "can be written"


def _spool_folder(path: Path) -> str:
    """Say whether files can be made in the directory, which a run makes with its parents."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return _writable(path / "spool")


def _listen(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigError(f"{host} port {port}: cannot listen: {error.strerror}") from error
    return f"{host} port {port} is free"


def _destinations(settings: Settings, secrets: Secrets) -> Iterator[Destination]:
    """Make the destinations of --client, --syslog and --hec, to connect to and no more."""
    if settings.client:
        yield Datagrams(settings.client, settings.port, limit=settings.syslog_max)
    for address in settings.syslog:
        if address.scheme == "udp":
            yield Datagrams(address.host, address.port, limit=settings.syslog_max)
        else:
            yield Stream(address, by_newline, secrets.context if address.scheme == "tls" else None)
    for url in settings.hec:
        assert secrets.context
        yield Hec(url, secrets.token, context=secrets.context, raw=None, ack=settings.hec_ack)


def _reach(destination: Destination) -> str:
    try:
        destination.connect()
        if isinstance(destination, (Hec, Stream)):
            destination.try_out()
    except Unavailable as error:
        raise ConfigError(f"{error}; is it running, and is its address right?") from error
    finally:
        destination.disconnect()
    return "answers" if destination.name.partition("://")[0] != "udp" else "its name is known"
