"""Records to Splunk: events of the modular input's XML stream, many in one write."""

from __future__ import annotations

import re
import threading
import time
from calendar import month_abbr
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from dnsqmon.core.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import RawIOBase

    from dnsqmon.core.interfaces import RecordBatch

_markup = re.compile(r"[&<>]").search
#: What XML 1.0 forbids (section 2.2) and what is not ASCII: no record holds it, and one such
#: character would end the stream for the reader.
_foreign = re.compile(r"[^\n\x20-\x7e]")


class SplunkSink:
    """Write each record as one event with the packet's time, in the original's syslog format.

    `stanza` is the input's full name (`dns_query_monitor://eth0`). With `header` the record follows
    `Mon DD HH:MM:SS sensor dnsQmon: `, else it is the bare CSV line. Records whose score is below
    `minimum_score` are counted and left out.

    A write waits for splunkd: what a live source cannot place meanwhile, its ring counts as lost,
    and a capture file waits.
    """

    name = "splunk"

    def __init__(
        self, stream: EventStream, stanza: str, *, header: bool = True, minimum_score: int = 0
    ) -> None:
        self.minimum_score = minimum_score
        self._stream = stream
        self._start = f"<event stanza={quoteattr(stanza)}><time>"
        self._header = header
        self._headers: dict[str, str] = {}
        self._counts = {
            "written": 0, "below_minimum": 0, "already_written": 0, "lost_splunkd_gone": 0,
        }  # fmt: skip
        #: Records taken since `resume`, those that were left out included.
        self.taken = 0
        self._skip = 0

    def resume(self, *, after: int) -> None:
        """Begin a source anew whose first `after` records were written by an earlier run."""
        self.taken = 0
        self._skip = after

    def write(self, batch: RecordBatch) -> None:
        """Write the events of a batch at once; raises SinkError when splunkd does not read."""
        first = min(self._skip, len(batch.records))
        records, lines = batch.records[first:], _safe(batch.lines("csv"))[first:]
        start, header, minimum = self._start, self._header_of, self.minimum_score
        events = [
            f"{start}{_seconds(record[0])}</time><data>{header(line[:19], record[1])}{line}"
            "</data></event>"
            for record, line in zip(records, lines)
            if record[11] >= minimum
        ]
        try:
            if events:
                self._stream.write("\n".join(events))
        except SinkError as error:
            error.lost = len(events)
            self._counts["lost_splunkd_gone"] += len(events)
            raise
        self._skip -= first
        self.taken += len(batch.records)
        self._counts["already_written"] += first
        self._counts["below_minimum"] += len(records) - len(events)
        self._counts["written"] += len(events)

    def write_statistics(self, sensor: str, text: str) -> None:
        """Write one event of the sourcetype dnsqmon:stats, dated now; may raise SinkError."""
        self._stream.write(
            f"{self._start}{_seconds(time.time_ns())}</time><host>{escape(sensor)}</host>"
            f"<sourcetype>dnsqmon:stats</sourcetype><data>{_safe([text])[0]}</data></event>"
        )

    def check(self) -> None:
        """Raise SinkError when splunkd is gone, even though there is nothing to write."""
        self._stream.check()

    def counts(self) -> Mapping[str, int]:
        """Return what became of the records: their sum is all that were accepted."""
        return self._counts

    def close(self) -> None:
        """Nothing waits here; the stream is closed by the one who opened it."""

    def _header_of(self, stamp: str, hostname: str) -> str:
        """Return the RFC 3164 header of a record: `MM/DD/YYYY,HH:MM:SS` and its sensor's name."""
        if not self._header:
            return ""
        known = self._headers.get(stamp)
        if known is None:
            if len(self._headers) >= 4096:
                self._headers.clear()
            known = f"{month_abbr[int(stamp[:2])]} {int(stamp[3:5]):2} {stamp[11:]} "
            self._headers[stamp] = known
        return f"{known}{hostname} dnsQmon: "


class EventStream:
    """The `<stream>` on the way to splunkd, which several inputs of one process may share.

    `out` is unbuffered, so that nothing is written after splunkd is gone. Every write holds whole
    events, and the stream is closed whole or not at all.
    """

    def __init__(self, out: RawIOBase) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._begun = False
        self._gone = False

    def write(self, events: str) -> None:
        """Write whole events; raises SinkError when splunkd closed the pipe."""
        with self._lock:
            self._send(events if self._begun else f"<stream>{events}")
            self._begun = True

    def close(self) -> None:
        """End the stream; without an event there is none."""
        with self._lock:
            if self._begun and not self._gone:
                self._send("</stream>\n")
                self._gone = True

    def check(self) -> None:
        """Raise SinkError once splunkd has closed the pipe."""
        if self._gone:
            raise SinkError("splunkd no longer reads this input's events")

    def _send(self, text: str) -> None:
        self.check()
        rest = memoryview(f"{text}\n".encode("ascii"))
        try:
            while rest:
                rest = rest[self._out.write(rest) or 0 :]
        except OSError as error:
            self._gone = True
            raise SinkError(
                f"splunkd no longer reads this input's events: {error.strerror}"
            ) from error


def _safe(lines: Iterable[str]) -> list[str]:
    """Make lines fit for XML: markup escaped, and no character that would break the stream."""
    text = "\n".join(lines)
    if _foreign.search(text):
        text = _foreign.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    if _markup(text):
        text = escape(text)
    return text.split("\n")


def _seconds(time_ns: int) -> str:
    """Write nanoseconds since the epoch as seconds, with every digit."""
    digits = f"{max(time_ns, 0):010d}"
    return f"{digits[:-9]}.{digits[-9:]}"
