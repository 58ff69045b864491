"""Records to syslog messages (RFC 3164, RFC 5424, or as the original), over UDP, TCP or TLS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable

from dnsqmon.core.syslog_codes import FACILITIES, SEVERITIES
from dnsqmon.sinks.datagram import Datagrams
from dnsqmon.sinks.forward import Ending, Forward
from dnsqmon.sinks.stream import Stream, by_newline, by_octet_count

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from dnsqmon.core.addresses import Address
    from dnsqmon.core.interfaces import RecordBatch
    from dnsqmon.core.record import Record
    from dnsqmon.sinks.destination import Destination
    from dnsqmon.sinks.spool import Spool

#: With the severity `score`: from this score on, this severity. The steps are those of critical,
#: high and low in lookups/dnsqmon_severity.csv; 35 is a watch-list hit.
SEVERITY_FROM = ((50, "err"), (35, "warning"), (10, "notice"))

APP_NAME = "dnsQmon"
#: What every receiver must take over UDP is less than what most take: RFC 3164 section 4.1.
UDP_LIMIT = 1024


class Messages:
    """Renders a batch as syslog messages in the format `form`, a key of `FORMATS`.

    `severity` is one of SEVERITIES, or `score`. The header's time is the record's, in local time
    or UTC in the old formats; RFC 5424 names its zone, and always is in UTC. The HOSTNAME is
    that of the record: the sensor's, also behind a relay.
    """

    def __init__(self, form: str, facility: str, severity: str, *, utc: bool = False) -> None:
        self._render = FORMATS[form]
        self._clock = _Clock(time.gmtime if utc else time.localtime)
        base = FACILITIES.index(facility) * 8
        if severity == "score":
            self._steps = [(score, base + SEVERITIES.index(name)) for score, name in SEVERITY_FROM]
            self._priority = base + SEVERITIES.index("info")
        else:
            self._steps = []
            self._priority = base + SEVERITIES.index(severity)

    def __call__(self, batch: RecordBatch) -> list[str]:
        """Return one message a record, without a line end."""
        records = batch.records
        if self._steps:
            priorities = [self._priority_of(record[11]) for record in records]
        else:
            priorities = [self._priority] * len(records)
        return self._render(self._clock, priorities, records, batch.lines("csv"))

    def _priority_of(self, score: int) -> int:
        for step, priority in self._steps:
            if score >= step:
                return priority
        return self._priority


def syslog(
    addresses: Sequence[Address],
    messages: Callable[[RecordBatch], Sequence[str]],
    spool: Spool,
    *,
    frame: Callable[[Sequence[bytes]], bytes],
    context: ssl.SSLContext,
    udp_limit: int = UDP_LIMIT,
    patience: float = 0.0,
    ending: Ending | None = None,
) -> Forward:
    """Make a sink of --syslog; the `addresses` share the messages, which the spool holds for all.

    `frame` is `by_newline` or `by_octet_count`, for tcp and tls.
    """
    destinations = [_destination(address, frame, context, udp_limit) for address in addresses]
    name = f"syslog {addresses[0]}"
    return Forward(name, messages, spool, destinations, patience=patience, ending=ending)


def framing(choice: str, form: str, scheme: str) -> Callable[[Sequence[bytes]], bytes]:
    """Choose how a stream separates messages; `auto` is what each receiver understands.

    RFC 5425 section 4.3 wants the octet count over TLS, and receivers of RFC 5424 expect it;
    for the old format over plain TCP the newline is what Splunk, rsyslog and syslog-ng read.
    """
    counted = choice == "octet-counting" or (
        choice == "auto" and (scheme == "tls" or form == "rfc5424")
    )
    return by_octet_count if counted else by_newline


class _Clock:
    """Epoch seconds to the two kinds of header time, each second once."""

    def __init__(self, convert: Callable[[float], time.struct_time]) -> None:
        self._convert = convert
        self._stamps: dict[int, str] = {}

    def rfc3164(self, second: int) -> str:
        """Return `Mmm dd hh:mm:ss`, the day padded by a space: RFC 3164 section 4.1.2."""
        stamp = self._stamps.get(second)
        if stamp is None:
            moment = self._convert(min(max(second, 0), _LAST_SECOND))
            stamp = f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2} " + time.strftime(
                "%H:%M:%S", moment
            )
            self._remember(second, stamp)
        return stamp

    def rfc5424(self, second: int) -> str:
        """Return `YYYY-MM-DDThh:mm:ss` in UTC, for a fraction to follow: RFC 5424 section 6.2.3."""
        stamp = self._stamps.get(second)
        if stamp is None:
            moment = time.gmtime(min(max(second, 0), _LAST_SECOND))
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
            self._remember(second, stamp)
        return stamp

    def _remember(self, second: int, stamp: str) -> None:
        if len(self._stamps) >= 4096:
            self._stamps.clear()
        self._stamps[second] = stamp


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: The last second that four digits of a year hold in every time zone, as in `render`.
_LAST_SECOND = 253_402_214_399


def _original(
    clock: _Clock,  # noqa: ARG001 - this format has no header
    priorities: Sequence[int],
    records: Sequence[Record],  # noqa: ARG001
    csv_lines: Sequence[str],
) -> list[str]:
    return [f"<{priority}> {line}" for priority, line in zip(priorities, csv_lines)]


def _rfc3164(
    clock: _Clock, priorities: Sequence[int], records: Sequence[Record], csv_lines: Sequence[str]
) -> list[str]:
    stamp = clock.rfc3164
    return [
        f"<{priority}>{stamp(record[0] // 1_000_000_000)} {record[1]} {APP_NAME}: {line}"
        for priority, record, line in zip(priorities, records, csv_lines)
    ]


def _rfc5424(
    clock: _Clock, priorities: Sequence[int], records: Sequence[Record], csv_lines: Sequence[str]
) -> list[str]:
    stamp = clock.rfc5424
    return [
        f"<{priority}>1 {stamp(record[0] // 1_000_000_000)}."
        f"{record[0] // 1000 % 1_000_000:06d}Z {record[1]} {APP_NAME} - - - {line}"
        for priority, record, line in zip(priorities, records, csv_lines)
    ]


FORMATS: dict[
    str, Callable[[_Clock, Sequence[int], Sequence[Record], Sequence[str]], list[str]]
] = {
    "rfc3164": _rfc3164,
    "rfc5424": _rfc5424,
    "original": _original,
}


def _destination(
    address: Address,
    frame: Callable[[Sequence[bytes]], bytes],
    context: ssl.SSLContext,
    udp_limit: int,
) -> Destination:
    if address.scheme == "udp":
        return Datagrams(address.host, address.port, limit=udp_limit)
    return Stream(address, frame, context if address.scheme == "tls" else None)
