"""`pipeline`: every record once to every sink, in order, whatever fails, and an orderly end."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING

import pytest

import craft
from dnsqmon.account.account import account
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ClosedOutputError, SinkError, SourceError
from dnsqmon.decode.decoder import Decoder
from dnsqmon.pipeline import Pipeline
from dnsqmon.render.batch import Clock
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sensor.sensor import Sensor
from seams import ListSink, ListSource
from traffic import noise, query, timed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dnsqmon.core.record import Frame, FrameBatch

NAMES = [f"n{number}.example.com" for number in range(12)]


@pytest.fixture(autouse=True)
def _log_to_caplog(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let the program's log reach the test, whatever a test before made of it."""
    log = logging.getLogger("dnsqmon")
    propagate, log.propagate = log.propagate, True
    caplog.set_level(logging.INFO, "dnsqmon")
    yield
    log.propagate = propagate


def frames_in(*sizes: int) -> list[list[Frame]]:
    """Cut queries for NAMES, each after a frame that is none, into batches of so many queries."""
    frames = timed(frame for name in NAMES for frame in (noise(), query(name)))
    batches = []
    for size in sizes:
        batches.append(frames[: 2 * size])
        del frames[: 2 * size]
    return batches


def pipeline(source: ListSource, *sinks: ListSink, patient: bool = False) -> Pipeline:
    """Put the real stages between a source and sinks."""
    counters, lists, seen = Counters(), Lists(), FirstSeen(100)
    scorer = Scorer("roonet", load_profile("classic"), lists, seen)
    inlet = Sensor(Decoder((53,), (1, 28, 12), counters), scorer, lists, seen, counters)
    return Pipeline(source, inlet, sinks, counters, Clock(utc=True), patient=patient)


def names(sink: ListSink) -> list[str]:
    """Return the domains that a sink has."""
    return [record[7] for record in sink.records]


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (0, 5, 0, 0, 7, 0)])
def test_every_record_once_to_every_sink(sizes: Sequence[int]) -> None:
    """However frames are cut, every sink gets every record once, in order, numbered on."""
    sinks = [ListSink("one"), ListSink("two")]
    run = pipeline(ListSource(frames_in(*sizes)), *sinks)
    run.run()
    for sink in sinks:
        assert names(sink) == NAMES
        numbers = [line.split()[3] for line in sink.screen]
        assert numbers == [str(number) for number in range(1, 13)]
    assert run.counters.adds_up()
    assert (run.counters.packets, run.counters.records) == (24, 12)


def test_between_batches() -> None:
    """`between` is called after each batch, empty ones included, with the records written."""
    sink = ListSink()
    seen: list[int] = []
    pipeline(ListSource(frames_in(2, 0, 3)), sink).run(lambda: seen.append(len(sink.records)))
    assert seen == [2, 2, 5]


def test_order_of_the_end() -> None:
    """At the end the source is closed first, then the stages finish, then the sinks close."""
    events: list[str] = []
    sinks = [ListSink("one", events), ListSink("two", events)]
    run = pipeline(ListSource(frames_in(1), events), *sinks)
    finish = run.inlet.finish

    def finish_noted() -> None:
        events.append("stages")
        finish()

    run.inlet.finish = finish_noted  # type: ignore[method-assign]
    run.run()
    assert events == ["source", "stages", "one", "two"]


def test_held_frames_are_counted_at_the_end() -> None:
    """What waits for its rest when the source ends is counted as lost, and the sum adds up."""
    whole = craft.udp(40000, 53, craft.dns_query("www.example.com"))
    part = craft.ethernet(craft.ipv4("192.0.2.1", "192.0.2.2", craft.UDP, whole[:16], more=True))
    run = pipeline(ListSource([timed([part, query("www.example.com")])]), ListSink())
    run.run()
    assert run.counters.held == 0
    assert run.counters.reasons["fragment_lost"] == 1
    assert run.counters.adds_up()


def test_stopped_while_writing() -> None:
    """A stop that comes while a batch is written ends the run after that batch, which is whole."""
    source = ListSource(frames_in(4, 4, 4))
    sink = ListSink(while_writing=source.stop)
    other = ListSink("other")
    run = pipeline(source, sink, other)
    run.run()
    assert names(sink) == names(other) == NAMES[:4]
    assert run.counters.adds_up()


@pytest.mark.parametrize(
    ("error", "patient"),
    [
        (SinkError("disk full", lost=3), False),
        (ClosedOutputError(lost=3), False),
        (ClosedOutputError(lost=3), True),
    ],
)
def test_failure_that_ends_the_run(error: SinkError, patient: bool) -> None:
    """The run ends with the failure, after every other sink has the batch, and all are closed."""
    events: list[str] = []
    bad = ListSink("bad", events, {1: error})
    good = ListSink("good", events)
    run = pipeline(ListSource(frames_in(4, 4, 4), events), bad, good, patient=patient)
    with pytest.raises(type(error)) as caught:
        run.run()
    assert caught.value is error
    assert names(bad) == NAMES[:5]
    assert names(good) == NAMES[:8]
    assert events == ["source", "bad", "good"]
    for counts in account(run)["sinks"].values():
        assert sum(counts.values()) == run.counters.records == 8


def test_patience(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live run goes on: what a sink did not take is counted, and told once in 15 seconds."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def ten_seconds_on() -> None:
        nonlocal now
        now += 10

    failures = {number: SinkError("disk full", lost=number) for number in (0, 1, 2, 3)}
    bad, good = ListSink("bad", failures=failures), ListSink("good")
    run = pipeline(ListSource(frames_in(*[2] * 2, *[4] * 2)), bad, good, patient=True)
    run.run(ten_seconds_on)
    assert names(good) == NAMES
    assert bad.lost == 6
    assert len(bad.records) == 6
    # At 0 and 20 seconds; what was lost at 10 is told at 20, what was lost at 30 is not told yet.
    assert [record.getMessage() for record in caplog.records] == [
        "disk full (0 records lost)", "disk full (3 records lost)",
    ]  # fmt: skip
    assert account(run)["sinks"]["bad"] == {"written": 6, "waiting": 0, "lost_write_error": 6}


def test_failures_at_the_end() -> None:
    """Whatever fails to close, everything is closed, and the first failure is the run's."""
    events: list[str] = []
    first, second = SinkError("first"), SinkError("second")
    sinks = [
        ListSink("one", events), ListSink("two", events, {-1: first}),
        ListSink("three", events, {-1: second}), ListSink("four", events),
    ]  # fmt: skip
    with pytest.raises(SinkError, match=r"^first$"):
        pipeline(ListSource(frames_in(12), events), *sinks).run()
    assert events == ["source", "one", "two", "three", "four"]
    assert [names(sink) for sink in sinks] == [NAMES] * 4


def test_source_that_fails_to_close() -> None:
    """A source that the system refuses its last counts costs no sink its end."""

    class BrokenSource(ListSource):
        def close(self) -> None:
            raise OSError(errno.ENODEV, "No such device")

    events: list[str] = []
    sink = ListSink("sink", events)
    with pytest.raises(SourceError, match=r"^list: No such device$"):
        pipeline(BrokenSource(frames_in(12)), sink).run()
    assert names(sink) == NAMES
    assert events == ["sink"]


def test_source_that_fails() -> None:
    """When the source fails, all that it gave before is written, and everything is closed."""

    class BrokenSource(ListSource):
        def batches(self) -> Iterator[FrameBatch]:
            yield from super().batches()
            raise SourceError("the interface is gone")

    events: list[str] = []
    sink = ListSink("sink", events)
    run = pipeline(BrokenSource(frames_in(4, 4), events), sink)
    with pytest.raises(SourceError, match=r"^the interface is gone$"):
        run.run()
    assert names(sink) == NAMES[:8]
    assert events == ["source", "sink"]
    assert run.counters.adds_up()
