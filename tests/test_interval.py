"""`sinks.interval`: records are collected and written by time, by number, and at the end."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.errors import SinkError
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.sinks import interval as module
from dnsqmon.sinks.interval import Interval
from seams import ListSink
from seed_rows import SEED_ROWS, batch_of, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.core.interfaces import RecordBatch


class FakeTime:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Return the clock that the module reads."""
    clock = FakeTime()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture(name="warnings")
def _warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Return what the program logs."""
    log = logging.getLogger("dnsqmon")
    propagate, log.propagate = log.propagate, True
    yield caplog
    log.propagate = propagate


def write(interval: Interval, start: int, end: int) -> None:
    """Write sample records as a batch of their own."""
    records = [record(row) for row in SEED_ROWS[start:end]]
    interval.write(Rendered(records, Clock(utc=True), start + 1))


def counts(written: int, waiting: int, lost: int = 0) -> dict[str, int]:
    """Return what `counts` should say."""
    return {"written": written, "waiting": waiting, "lost_write_error": lost}


def test_by_time(clock: FakeTime) -> None:
    """Records wait until the interval is over, then go in one piece, in order, once."""
    sink = ListSink("csv")
    interval = Interval(sink, 15)
    assert interval.name == "csv"
    write(interval, 0, 3)
    clock.pass_by(14.9)
    write(interval, 3, 5)
    assert (sink.batches, interval.counts()) == (0, counts(0, 5))
    clock.pass_by(0.1)
    write(interval, 5, 6)
    assert (sink.batches, interval.counts()) == (1, counts(6, 0))
    clock.pass_by(14.9)
    write(interval, 6, 7)
    assert interval.counts() == counts(6, 1)
    clock.pass_by(0.1)
    interval.write(batch_of([]))
    assert (sink.batches, interval.counts()) == (2, counts(7, 0))
    assert sink.records == [record(row) for row in SEED_ROWS[:7]]
    assert [line.split()[3] for line in sink.screen] == list("1234567")


def test_nothing_to_write(clock: FakeTime) -> None:
    """Where nothing came, nothing is written."""
    sink = ListSink()
    interval = Interval(sink, 15)
    for _ in range(5):
        clock.pass_by(15)
        interval.write(batch_of([]))
    interval.close()
    assert (sink.batches, sink.events) == (0, ["list"])


def test_by_number(clock: FakeTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many records wait as may, they are written before their time."""
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    sink = ListSink()
    interval = Interval(sink, 15)
    write(interval, 0, 9)
    assert interval.counts() == counts(0, 9)
    write(interval, 9, 12)
    assert interval.counts() == counts(12, 0)
    # The interval goes on.
    clock.pass_by(14.9)
    write(interval, 12, 13)
    assert interval.counts() == counts(12, 1)
    clock.pass_by(0.1)
    write(interval, 13, 14)
    assert interval.counts() == counts(14, 0)


@pytest.mark.usefixtures("clock")
def test_close_writes_what_waits() -> None:
    """Closing writes what waits, then closes the sink."""
    sink = ListSink()
    interval = Interval(sink, 15)
    write(interval, 0, 3)
    interval.close()
    assert (len(sink.records), sink.events) == (3, ["list"])


def test_every_form_is_joined(clock: FakeTime) -> None:
    """What the sink is given has the records, lines and rows of all batches, in order."""
    kept = []

    class Keeper(ListSink):
        def write(self, batch: RecordBatch) -> None:
            kept.append((batch.lines("csv"), batch.rows(), batch.records))

    interval = Interval(Keeper(), 15)
    write(interval, 0, 3)
    clock.pass_by(15)
    write(interval, 3, 5)
    whole = batch_of(SEED_ROWS[:5])
    assert kept == [(whole.lines("csv"), whole.rows(), whole.records)]


def test_interval_grows(clock: FakeTime, warnings: pytest.LogCaptureFixture) -> None:
    """When writing takes longer than the interval, the interval becomes what writing took."""
    sink = ListSink("sqlite", while_writing=lambda: clock.pass_by(20))
    interval = Interval(sink, 15)
    clock.pass_by(15)
    write(interval, 0, 1)
    assert interval.seconds == 20
    assert [message.getMessage() for message in warnings.records] == [
        (
            "writing sqlite took 20.00 seconds, longer than the interval of 15.00: the interval is "
            "20.00 seconds from now on; set -t higher"
        )
    ]
    clock.pass_by(19.9)
    write(interval, 1, 2)
    assert len(sink.records) == 1
    clock.pass_by(0.1)
    write(interval, 2, 3)
    assert len(sink.records) == 3
    assert len(warnings.records) == 1


def test_interval_grows_by_all_writing_in_it(
    clock: FakeTime, warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many records make many short writes: together they may take longer than the interval."""
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    sink = ListSink("csv", while_writing=lambda: clock.pass_by(4))
    interval = Interval(sink, 10)
    for number in range(3):
        write(interval, number * 2, number * 2 + 2)
    interval.write(batch_of([]))
    assert interval.seconds == 12
    assert "writing csv took 12.00 seconds" in warnings.text
    # The next interval is judged by its own writing alone.
    for number in range(3):
        write(interval, number * 2, number * 2 + 2)
    interval.write(batch_of([]))
    assert interval.seconds == 12
    assert len(warnings.records) == 1


def test_sink_that_fails(clock: FakeTime) -> None:
    """A failure is handed on with what it cost; nothing is written twice, the next goes well."""
    sink = ListSink(failures={0: SinkError("disk full", lost=2)})
    interval = Interval(sink, 15)
    write(interval, 0, 3)
    clock.pass_by(15)
    with pytest.raises(SinkError, match=r"^disk full$") as caught:
        write(interval, 3, 5)
    assert caught.value.lost == 2
    assert interval.counts() == counts(3, 0, 2)
    write(interval, 5, 6)
    interval.close()
    assert interval.counts() == counts(4, 0, 2)
    assert sink.records == [record(row) for row in [*SEED_ROWS[:3], SEED_ROWS[5]]]


@pytest.mark.usefixtures("clock")
def test_sink_that_fails_at_the_end() -> None:
    """A failure while closing is handed on after the sink was closed."""
    sink = ListSink(failures={0: SinkError("disk full", lost=1)})
    interval = Interval(sink, 15)
    write(interval, 0, 3)
    with pytest.raises(SinkError, match=r"^disk full$"):
        interval.close()
    assert sink.events == ["list"]
