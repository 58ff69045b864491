"""Records to text: each format is one function in a table, run at most once a batch."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Callable

from dnsqmon.core.record import RECORD_FIELDS

if TYPE_CHECKING:
    from dnsqmon.core.record import Record

_SECOND = 1_000_000_000
#: 9999-12-31 23:59:59 UTC less a day for time zones: the last second a date of ten digits can name.
_LAST_SECOND = 253_402_214_399
#: Seconds that are remembered with their text.
_MAX_STAMPS = 4096
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Rendered:
    """Records and their text (see `interfaces.RecordBatch`).

    `first_number` is the number of the first record since the program started, which the screen
    line shows.
    """

    def __init__(self, records: list[Record], clock: Clock, first_number: int = 1) -> None:
        self.records = records
        self.clock = clock
        self.first_number = first_number
        self._lines: dict[str, list[str]] = {}
        self._rows: list[tuple[object, ...]] | None = None

    def lines(self, form: str) -> list[str]:
        """Return one text a record in the format `form`, a key of `FORMATS`."""
        lines = self._lines.get(form)
        if lines is None:
            lines = self._lines[form] = FORMATS[form](self)
        return lines

    def rows(self) -> list[tuple[object, ...]]:
        """Return the 14 values of each record."""
        if self._rows is None:
            clock = self.clock
            self._rows = [
                (*clock[record[0] // _SECOND].split(","), *record[1:13]) for record in self.records
            ]
        return self._rows


class Clock(dict[int, str]):
    """Epoch seconds to `MM/DD/YYYY,HH:MM:SS`, in local time or UTC: `clock[second]`.

    A dictionary that makes what it lacks, since nearly every record asks for a second that was
    asked for before. Times before 1970 and after 9999, which a capture file can claim, are shown
    as the nearest second the format can hold.
    """

    def __init__(self, *, utc: bool = False) -> None:
        super().__init__()
        self._convert = time.gmtime if utc else time.localtime

    def __missing__(self, second: int) -> str:
        if len(self) >= _MAX_STAMPS:
            self.clear()
        moment = self._convert(min(max(second, 0), _LAST_SECOND))
        stamp = self[second] = time.strftime("%m/%d/%Y,%H:%M:%S", moment)
        return stamp


def _csv(batch: Rendered) -> list[str]:
    """Join the 14 fields by commas, the original's format; no field holds a comma."""
    clock = batch.clock
    return [
        f"{clock[time_ns // 1_000_000_000]},{hostname},{src},{src_port},{dst},{dst_port},"
        f"{record_type},{domain},{tld},{sld},{levels},{score},{flags}"
        for time_ns, hostname, src, src_port, dst, dst_port, record_type, domain, tld, sld, levels,
        score, flags, _, _, _ in batch.records
    ]  # fmt: skip


def _screen(batch: Rendered) -> list[str]:
    """Write the original's display line."""
    clock = batch.clock
    return [
        f"[-] DNS Packet: {number} - {clock[record[0] // _SECOND].replace(',', ' ')} - "
        f"{record[2]}:{record[3]} > {record[4]}:{record[5]} - {record[6]} Record - "
        f"Score: {record[11]} Flags: {record[12]} - {record[7]}"
        for number, record in enumerate(batch.records, batch.first_number)
    ]


def _json(batch: Rendered) -> list[str]:
    """Write one JSON object a record; `time` is epoch seconds with every digit the capture has."""
    lines = []
    for record in batch.records:
        members = dict(zip(RECORD_FIELDS, record))
        seconds, nanoseconds = divmod(abs(record[0]), _SECOND)
        sign = "-" if record[0] < 0 else ""
        del members["time"]
        if record[12] == "None":
            members["flags"] = ""
        lines.append(f'{{"time":{sign}{seconds}.{nanoseconds:09d},{_encode(members)[1:]}')
    return lines


FORMATS: dict[str, Callable[[Rendered], list[str]]] = {
    "csv": _csv,
    "screen": _screen,
    "json": _json,
}
