"""Reads and decodes a capture file in a process of its own, ahead of the scorer.

Decoding is more than half of the work and hangs on nothing that scoring finds out. The pipe between
the two processes holds about one message, which keeps them in step and the memory flat.
"""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

from dnsqmon.core.errors import SourceError
from dnsqmon.core.garbage import collect_seldom

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from dnsqmon.core.counters import Counters, Decoded
    from dnsqmon.core.interfaces import Source
    from dnsqmon.core.record import Query
    from dnsqmon.decode.decoder import Decoder

OnProgress = Callable[[int, int], None]

#: Seconds that the other process has to end by itself.
_PATIENCE = 2.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
#: Octets of a file below which a second process costs more than it saves.
WORTHWHILE = 4 << 20


class Step(NamedTuple):
    """What the other process has done since its last message."""

    queries: list[Query]
    counts: Decoded
    losses: Mapping[str, int]
    #: Octets of the file that are done, and octets in all.
    progress: tuple[int, int]
    #: Set in the last message: empty, or why the file could not be read to its end.
    failure: str | None


def is_worthwhile(path: str) -> bool:
    """Say whether `path` is a long enough file, and whether there is a second processor."""
    try:
        status = Path(path).stat()
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_size >= WORTHWHILE
            and len(os.sched_getaffinity(0)) > 1
        )
    except (OSError, AttributeError):  # no such file, or not Linux
        return False


class DecodeAhead:
    """Stands for a source and its decoder, whose work it has done elsewhere.

    Give the same object to the pipeline as its source and to the sensor as its decoder.
    `open_source` is called with what wants to know the progress; `decoder` counts in `counters`.
    Starts its process at once, so make it before anything starts a thread. Raises ConfigError where
    the source cannot be opened.
    """

    def __init__(
        self,
        open_source: Callable[[OnProgress], Source],
        decoder: Decoder,
        counters: Counters,
        on_progress: OnProgress | None,
    ) -> None:
        self._progress = (0, 0)
        source = open_source(self._note)
        self.name = source.name
        self._counters = counters
        self._on_progress = on_progress
        self._losses: Mapping[str, int] = {}
        import multiprocessing  # noqa: PLC0415 - a tenth of the start, which short files do without

        context = multiprocessing.get_context("fork")
        self._steps, steps = context.Pipe(duplex=False)
        self._process = context.Process(target=self._work, args=(source, decoder, steps))
        # No signal may find the new process before it knows what to do with it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        steps.close()
        source.close()

    def batches(self) -> Iterator[Step]:
        """Yield what was decoded, for `decode`; may raise SourceError."""
        failure = None
        while failure is None:
            try:
                step: Step = self._steps.recv()
            except (EOFError, OSError):  # OSError: in the middle of a message
                self._process.join()
                raise SourceError(
                    f"{self.name}: the process that decodes it ended ({self._process.exitcode})"
                ) from None
            if self._on_progress:
                self._on_progress(*step.progress)
            self._losses = step.losses
            yield step
            failure = step.failure
        if failure:
            raise SourceError(failure)

    def decode(self, step: Step) -> list[Query]:
        """Take over the counts, and give the queries."""
        self._counters.take_over(step.counts)
        return step.queries

    def finish(self) -> None:
        """Do nothing: the other process finished its decoder when it came to the end."""

    def losses(self) -> Mapping[str, int]:
        """Return the losses of the source."""
        return self._losses

    def counts(self) -> Mapping[str, int]:
        """Count nothing more."""
        return {}

    def stop(self) -> None:
        """Make `batches` end after what was read so far."""
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGTERM)

    def close(self) -> None:
        """End the other process; it has nothing that is not here."""
        self._steps.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _note(self, done: int, total: int) -> None:
        self._progress = (done, total)

    def _work(self, source: Source, decoder: Decoder, steps: Connection) -> None:
        """Do the work, in the other process."""
        self._steps.close()
        collect_seldom()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # it is for the parent
        signal.signal(signal.SIGTERM, lambda _number, _frame: source.stop())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

        def send(queries: list[Query], failure: str | None = None) -> None:
            counts = self._counters.decoded()
            steps.send(Step(queries, counts, source.losses(), self._progress, failure))

        try:
            failure = ""
            try:
                for batch in source.batches():
                    send(decoder.decode(batch))
            except SourceError as error:
                failure = str(error)
            decoder.finish()
            send([], failure)
        except BrokenPipeError:  # whoever wanted this is gone
            pass
        finally:
            source.close()
