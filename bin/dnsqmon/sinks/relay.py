"""The client: records to the datagrams of another dnsqmon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsqmon.relay.wire import Signer, plain_datagram
from dnsqmon.sinks.datagram import Datagrams
from dnsqmon.sinks.forward import Ending, Forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.interfaces import RecordBatch
    from dnsqmon.sinks.spool import Spool

#: The most that UDP over IPv4 carries (RFC 768, RFC 791); a record is shorter.
UDP_MOST = 65507


def relay_client(
    host: str,
    port: int,
    spool: Spool,
    key: bytes | None = None,
    *,
    patience: float = 0.0,
    ending: Ending | None = None,
) -> Forward:
    """Make the sink of --client: one datagram a record, signed when there is a `key`."""
    frame = Signer(key).datagram if key else plain_datagram
    server = Datagrams(host, port, limit=UDP_MOST, frame=frame)
    return Forward("relay", _lines, spool, [server], patience=patience, ending=ending)


def _lines(batch: RecordBatch) -> Sequence[str]:
    return batch.lines("csv")
