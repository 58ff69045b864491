"""The loop: a batch from the source, through the stages, to every sink, until there is no more."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Callable, Protocol

from dnsqmon.core.errors import ClosedOutputError, SinkError, SourceError
from dnsqmon.render.batch import Rendered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dnsqmon.core.counters import Counters
    from dnsqmon.core.errors import DnsqmonError
    from dnsqmon.core.interfaces import Sink, Source
    from dnsqmon.core.record import FrameBatch, Record
    from dnsqmon.render.batch import Clock

#: Seconds between two reports of a sink that keeps failing.
_COMPLAINT_SECONDS = 15

log = logging.getLogger(__name__)


class Inlet(Protocol):
    """The stages between source and sinks."""

    def take(self, batch: FrameBatch) -> list[Record]:
        """Return the records of a batch."""

    def keep_up(self) -> None:
        """Do what is due between two batches."""

    def reload(self) -> None:
        """Load the lists again with the next batch; called from a signal handler."""

    def counts(self) -> Mapping[str, int]:
        """Return what is worth counting besides packets and records."""

    def finish(self) -> None:
        """Come to an end after the last batch."""


class Pipeline:
    """Runs until the source ends or is stopped; everything that was captured is written then.

    With `patient` a sink that fails costs the records it could not take, which are counted and
    reported; without, as for a file that can be read again, it ends the run with SinkError once
    every other sink has the batch. A reader of standard output that went away ends any run.
    """

    def __init__(
        self,
        source: Source,
        inlet: Inlet,
        sinks: Sequence[Sink],
        counters: Counters,
        clock: Clock,
        *,
        patient: bool = False,
    ) -> None:
        self.source = source
        self.inlet = inlet
        self.sinks = sinks
        self.counters = counters
        self.clock = clock
        self._patient = patient
        self._written = 0
        self._complained_at = float("-inf")
        self._lost = 0

    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Move every batch from the source to the sinks, then close; may raise DnsqmonError.

        `between` is called after each batch.
        """
        try:
            for batch in self.source.batches():
                self._write(self.inlet.take(batch))
                self.inlet.keep_up()
                between()
        finally:
            self._close()

    def _write(self, records: list[Record]) -> None:
        batch = Rendered(records, self.clock, self._written + 1)
        self._written += len(records)
        failure: SinkError | None = None
        for sink in self.sinks:
            try:
                sink.write(batch)
            except SinkError as error:
                if self._patient and not isinstance(error, ClosedOutputError):
                    self._complain(error)
                else:
                    failure = failure or error
        if failure:
            raise failure

    def _complain(self, error: SinkError) -> None:
        """Report a failing sink, at most once an interval, with what it has cost since."""
        self._lost += error.lost
        if time.monotonic() - self._complained_at >= _COMPLAINT_SECONDS:
            self._complained_at = time.monotonic()
            log.error("%s (%d records lost)", error, self._lost)
            self._lost = 0

    def _close(self) -> None:
        """Close everything, whatever fails on the way; raise the first failure at the end."""
        failure: DnsqmonError | None = None
        for close in (
            self.source.close, self.inlet.finish, *(sink.close for sink in self.sinks),
        ):  # fmt: skip
            try:
                close()
            except SinkError as error:
                failure = failure or error
            except OSError as error:  # of the source, which asks the system for its last counts
                failure = failure or SourceError(f"{self.source.name}: {error.strerror}")
        if failure:
            raise failure
