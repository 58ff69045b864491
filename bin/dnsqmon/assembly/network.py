"""Settings to the network: the sinks that send, and the relay that receives."""

from __future__ import annotations

import ipaddress
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dnsqmon.core.errors import ConfigError
from dnsqmon.relay.wire import read_key
from dnsqmon.sinks.destination import tls_context
from dnsqmon.sinks.forward import Ending
from dnsqmon.sinks.spool import Spool

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from dnsqmon.config.settings import Settings
    from dnsqmon.core.counters import Counters
    from dnsqmon.core.interfaces import Sink
    from dnsqmon.core.record import Record
    from dnsqmon.relay.feed import RelayBatch, RelayServer

log = logging.getLogger(__name__)

#: What waits in memory for a destination without a file.
MEMORY_BYTES = 64 * 1024 * 1024
#: Seconds that a file which is read waits for a destination that takes nothing.
PATIENCE = 30.0


class Secrets(NamedTuple):
    """What only the user who starts the program may be able to read."""

    key: bytes | None
    token: str
    context: ssl.SSLContext | None


def read_secrets(settings: Settings, hec_token: str | None) -> Secrets:
    """Read the files that hold secrets, while the rights to do so last; raises ConfigError.

    `hec_token` is the token from the environment; a file is preferred.
    """
    token = ""
    context = None
    if settings.hec:
        token = _token(settings.hec_token_file, hec_token)
    if settings.hec or settings.syslog:
        context = tls_context(
            ca=settings.tls_ca,
            certificate=settings.tls_cert,
            key=settings.tls_key,
            verify=not settings.no_tls_verify,
        )
    key = read_key(settings.key_file) if settings.key_file else None
    return Secrets(key, token, context)


def network_sinks(settings: Settings, secrets: Secrets) -> Iterator[Sink]:
    """Make the sinks of --client, --syslog and --hec; raises ConfigError."""
    patience = PATIENCE if settings.read else 0.0
    ending = None if patience else Ending()  # with patience, each waits for its own
    context = secrets.context
    if settings.client:
        from dnsqmon.sinks.relay import relay_client  # noqa: PLC0415 - loaded where used

        spool = Spool(None, MEMORY_BYTES)
        yield relay_client(
            settings.client, settings.port, spool, secrets.key, patience=patience, ending=ending
        )
    if settings.syslog and context:
        from dnsqmon.sinks import syslog  # noqa: PLC0415 - as above

        messages = syslog.Messages(
            settings.syslog_format,
            settings.syslog_facility,
            settings.syslog_severity,
            utc=settings.utc,
        )
        for address in settings.syslog:
            stream = address.scheme != "udp"
            yield syslog.syslog(
                [address] * (settings.syslog_connections if stream else 1),
                messages,
                _spool(settings, f"syslog {address}") if stream else Spool(None, MEMORY_BYTES),
                frame=syslog.framing(
                    settings.syslog_framing, settings.syslog_format, address.scheme
                ),
                context=context,
                udp_limit=settings.syslog_max,
                patience=patience,
                ending=ending,
            )
    if settings.hec and context:
        from dnsqmon.sinks.hec import hec  # noqa: PLC0415 - as above

        yield hec(
            settings.hec,
            secrets.token,
            _spool(settings, "hec"),
            context=context,
            endpoint=settings.hec_endpoint,
            index=settings.hec_index,
            ack=settings.hec_ack,
            name=settings.name,
            patience=patience,
            ending=ending,
        )


def relay_server(settings: Settings, secrets: Secrets) -> RelayServer:
    """Listen for the clients of --server; raises ConfigError."""
    from dnsqmon.relay.feed import RelayServer  # noqa: PLC0415 - as above

    if settings.read:
        raise ConfigError(
            "--server receives records, -r reads them from a file: leave out one of them"
        )
    server = RelayServer(
        settings.server or "",
        settings.port,
        allow=settings.allow,
        key=secrets.key,
        utc=settings.utc,
    )
    if settings.interface:
        log.warning("--server receives records: -i is not used")
    local = ipaddress.ip_address(server.address[0].partition("%")[0]).is_loopback
    if not (local or settings.allow or secrets.key):
        log.warning(
            "--server %s takes records from everybody who can reach it: give --allow or --key-file",
            settings.server,
        )
    return server


class RelayInlet:
    """What stands between a relay and the sinks: nothing but the count."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def take(self, batch: RelayBatch) -> list[Record]:
        """Return the records, each of which came in a packet of its own."""
        self._counters.packets += len(batch.records)
        self._counters.records += len(batch.records)
        return batch.records

    def keep_up(self) -> None:
        """Do nothing: there are no lists here."""

    def reload(self) -> None:
        """Do nothing, as above."""

    def counts(self) -> dict[str, int]:
        """Count nothing more."""
        return {}

    def finish(self) -> None:
        """Do nothing: no record waits here."""


def _token(path: str | None, environment: str | None) -> str:
    """Take the HEC token from its file or the environment."""
    token = environment or ""
    if path:
        try:
            token = Path(path).read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise ConfigError(
                f"--hec-token-file: cannot be read ({error.strerror}); name a readable file",
                where=path,
            ) from error
    if not re.fullmatch(r"[!-~]{8,128}", token):
        raise ConfigError(
            "--hec needs the collector's token: alone in the file that --hec-token-file names, "
            "or in the environment variable DNSQMON_HEC_TOKEN",
            where=path,
        )
    return token


def _spool(settings: Settings, name: str) -> Spool:
    """Open the file of a destination in --spool-dir, or memory."""
    if not settings.spool_dir:
        return Spool(None, MEMORY_BYTES)
    folder = Path(settings.spool_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--spool-dir: cannot be made ({error.strerror}); name a writable directory",
            where=settings.spool_dir,
        ) from error
    file = re.sub(r"[^0-9A-Za-z.]+", "-", name) + ".db"
    return Spool(str(folder / file), settings.spool_max)
