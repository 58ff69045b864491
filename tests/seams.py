"""A source and a sink that are lists, for what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import craft
from dnsqmon.core.record import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.core.errors import SinkError
    from dnsqmon.core.interfaces import RecordBatch
    from dnsqmon.core.record import Frame, Record


class ListSource:
    """Gives batches of frames; `stop` ends it before the next. Notes in `events` when it closes."""

    def __init__(self, batches: Sequence[Sequence[Frame]], events: list[str] | None = None) -> None:
        self.name = "list"
        self.events = [] if events is None else events
        self.stopped = False
        self._batches = batches

    def batches(self) -> Iterator[FrameBatch]:
        """Yield the batches."""
        for frames in self._batches:
            if self.stopped:
                break
            yield FrameBatch(craft.ETHERNET, list(frames))

    def counts(self) -> Mapping[str, int]:
        """Count what a filter kept out."""
        return {"filtered": 7}

    def losses(self) -> Mapping[str, int]:
        """Say that three packets were dropped."""
        return {"kernel_dropped": 3}

    def stop(self) -> None:
        """End before the next batch."""
        self.stopped = True

    def close(self) -> None:
        """Note it."""
        self.events.append("source")


class ListSink:
    """Keeps records; fails as `failures` (by number of the batch, from 0) says."""

    def __init__(
        self,
        name: str = "list",
        events: list[str] | None = None,
        failures: Mapping[int, SinkError] | None = None,
        while_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.events = [] if events is None else events
        self.records: list[Record] = []
        self.screen: list[str] = []
        self.batches = 0
        self.lost = 0
        self._failures = failures or {}
        self._while_writing = while_writing

    def write(self, batch: RecordBatch) -> None:
        """Keep the batch, or all but what the failure says."""
        self._while_writing()
        failure = self._failures.get(self.batches)
        self.batches += 1
        count = len(batch.records) - (failure.lost if failure else 0)
        self.records += batch.records[:count]
        self.screen += batch.lines("screen")[:count]
        if failure:
            self.lost += failure.lost
            raise failure

    def counts(self) -> Mapping[str, int]:
        """Say how many records were kept and how many not."""
        return {"written": len(self.records), "waiting": 0, "lost_write_error": self.lost}

    def close(self) -> None:
        """Note it, and fail where failure number -1 says so."""
        self.events.append(self.name)
        if -1 in self._failures:
            raise self._failures[-1]
