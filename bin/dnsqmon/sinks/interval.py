"""A sink in front of a file: collects records and writes them every so many seconds."""

from __future__ import annotations

import logging
import time
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dnsqmon.core.interfaces import RecordBatch, Sink
    from dnsqmon.core.record import Record

#: Records that are written before their time, to bound the memory that waiting takes.
MAX_WAITING = 16384

log = logging.getLogger(__name__)


class Interval:
    """Hands what came in `seconds` to `sink` in one piece, or sooner when much came.

    When all writing in an interval takes longer than it lasts, it grows to what writing took.
    """

    def __init__(self, sink: Sink, seconds: float) -> None:
        self.name = sink.name
        self.seconds = seconds
        self._sink = sink
        self._waiting: list[RecordBatch] = []
        self._count = 0
        self._spent = 0.0  # seconds in which the sink wrote, since the interval began
        self._due = time.monotonic() + seconds

    def write(self, batch: RecordBatch) -> None:
        """Keep the batch, and write what waits when it is time; may raise SinkError."""
        if batch.records:
            self._waiting.append(batch)
            self._count += len(batch.records)
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self.seconds
            try:
                self._flush()
            finally:
                self._adjust()
        elif self._count >= MAX_WAITING:
            self._flush()

    def counts(self) -> Mapping[str, int]:
        """Return the sink's counts, and what waits here."""
        counts = dict(self._sink.counts())
        counts["waiting"] = counts.get("waiting", 0) + self._count
        return counts

    def close(self) -> None:
        """Write what waits, and close the sink; may raise SinkError."""
        try:
            self._flush()
        finally:
            self._sink.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        count, self._count = self._count, 0
        if not count:
            return
        start = time.monotonic()
        try:
            self._sink.write(_Joined(waiting))
        finally:
            self._spent += time.monotonic() - start

    def _adjust(self) -> None:
        """Make the next interval longer if all writing of this one took longer than it lasted."""
        took, self._spent = self._spent, 0.0
        if took > self.seconds:
            log.warning(
                "writing %s took %.2f seconds, longer than the interval of %.2f: the interval is "
                "%.2f seconds from now on; set -t higher",
                self.name, took, self.seconds, took,
            )  # fmt: skip
            self.seconds = took
            self._due = time.monotonic() + took


class _Joined:
    """Several batches as one."""

    def __init__(self, batches: Sequence[RecordBatch]) -> None:
        self._batches = batches

    @property
    def records(self) -> list[Record]:
        return list(chain.from_iterable(batch.records for batch in self._batches))

    def lines(self, form: str) -> list[str]:
        return list(chain.from_iterable(batch.lines(form) for batch in self._batches))

    def rows(self) -> list[tuple[object, ...]]:
        return list(chain.from_iterable(batch.rows() for batch in self._batches))
