"""A network sink: records become lines, the lines wait in a spool, and threads send them."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Callable

from dnsqmon.core.errors import SinkError
from dnsqmon.core.pace import Complaints
from dnsqmon.sinks.destination import Batch, Destination, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dnsqmon.core.interfaces import RecordBatch
    from dnsqmon.sinks.destination import Settled
    from dnsqmon.sinks.spool import Spool

log = logging.getLogger(__name__)

#: Seconds a sender sleeps at most while nothing waits, and while something it sent is not settled.
IDLE, POLL = 0.5, 0.1
#: Back-off after a failure: the first wait and the longest, halved at random.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
#: Seconds that `close` gives the senders to send what waits, and then to end in order.
LAST_SENDS, LAST_ANSWERS = 1.0, 0.5
#: What a sender keeps in memory at most: sent, but not settled.
UNSETTLED_BYTES = 64 * 1024 * 1024


class Ending:
    """The end of sinks that end together: the first that is closed tells all senders."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._since = 0.0

    def begin(self) -> float:
        """Tell the senders, and say when they were told first (monotonic seconds)."""
        if not self.begun.is_set():
            self._since = time.monotonic()
            self.begun.set()
        return self._since


class Forward:
    """A sink over one spool and the destinations that drain it, each as fast as it can.

    Several destinations share the load: one that is slow or away takes less or nothing, and the
    others take the rest. `lines` renders a batch, one text without a line end a record.

    A source that can wait, as a file can, gives its sink `patience` (seconds): rather than lose
    records, writing and closing wait that long for a destination that takes none. Sinks that share
    an `ending` are stopped together, so that several dead destinations cost the time of one.
    """

    def __init__(
        self,
        name: str,
        lines: Callable[[RecordBatch], Sequence[str]],
        spool: Spool,
        destinations: Sequence[Destination],
        *,
        patience: float = 0.0,
        ending: Ending | None = None,
    ) -> None:
        self.name = name
        self._patience = patience
        self._lines = lines
        self._spool = spool
        self._ending = ending or Ending()
        self._last_answers = LAST_ANSWERS + patience
        self._senders = [
            _Sender(spool, destination, self._ending.begun, self._last_answers)
            for destination in destinations
        ]
        for sender in self._senders:
            sender.start()

    def write(self, batch: RecordBatch) -> None:
        """Accept the batch; without patience, it never waits for a destination."""
        self._spool.append(self._lines(batch), self._patience)

    def counts(self) -> Mapping[str, int]:
        """Count `written`, `waiting`, `lost_<reason>`, and `resumed` (see Spool.counts)."""
        return self._spool.counts()

    def close(self) -> None:
        """Send what waits, without patience in 1.5 seconds; raise SinkError for what is lost."""
        if self._patience:
            self._spool.wait_until_taken(self._patience)
        deadline = self._ending.begin() + LAST_SENDS + self._last_answers
        self._spool.hurry()
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
            if sender.is_alive():
                sender.destination.disconnect()
        deadline = time.monotonic() + 0.1
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        lost = self._spool.close()
        if lost:
            raise SinkError(
                f"{self.name}: {lost} records could not be sent before the end and are lost",
                lost=lost,
            )


class _Sender(threading.Thread):
    """Takes lines from the spool, and sends them until its destination has settled them."""

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        stop: threading.Event,
        last_answers: float,
    ) -> None:
        super().__init__(name=f"send to {destination.name}", daemon=True)
        self.destination = destination
        self._spool = spool
        self._stop_event = stop
        self._last_answers = last_answers
        self._sent: list[Batch] = []
        self._complaints = Complaints(log)

    def run(self) -> None:
        """Send until told to stop; after a failure give all back, wait, and connect again."""
        failures = 0
        while not (failures and self._stop_event.is_set()):
            began = time.monotonic()
            try:
                self.destination.connect()
                self._send()
                break
            except Unavailable as error:
                failures = failures + 1 if time.monotonic() - began < LONGEST_WAIT else 1
                text = f"{self.destination.name}: {error}; the records wait"
                self._complaints.say(text)
            self.destination.disconnect()
            self._give_back()
            self._stop_event.wait(_back_off(failures))
        self.destination.disconnect()
        self._give_back()

    def _send(self) -> None:
        destination = self.destination
        while not self._stop_event.is_set():
            if sum(batch.size for batch in self._sent) < UNSETTLED_BYTES:
                batch = self._take(destination.linger, POLL if self._sent else IDLE)
                if batch:
                    destination.send(batch)
            else:
                self._stop_event.wait(POLL)
            self._settle(destination.settled())
        deadline = time.monotonic() + LAST_SENDS
        while time.monotonic() < deadline:
            batch = self._take(0, 0)
            if not batch:
                break
            destination.send(batch)
            self._settle(destination.settled())
        self._settle(destination.finish(self._last_answers))

    def _take(self, linger: float, wait: float) -> Batch | None:
        destination = self.destination
        chunks = self._spool.take(destination.most_lines, destination.most_bytes, linger, wait)
        if not chunks:
            return None
        lines = b"\n".join([chunk.payload for chunk in chunks]).split(b"\n")
        batch = Batch(chunks, lines, sum(len(chunk.payload) for chunk in chunks))
        self._sent.append(batch)
        return batch

    def _settle(self, settled: Sequence[Settled]) -> None:
        for batch, lost in settled:
            self._sent.remove(batch)
            self._spool.settle(batch.chunks, lost)

    def _give_back(self) -> None:
        for batch in self._sent:
            self._spool.give_back(batch.chunks)
        self._sent.clear()


def _back_off(failures: int) -> float:
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (failures - 1))
    return longest * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret
