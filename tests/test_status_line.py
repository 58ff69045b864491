"""`status`: the original's status lines."""

from __future__ import annotations

import io
import os
import time

import pytest

from dnsqmon.account.status_line import Status
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ClosedOutputError, SinkError
from dnsqmon.pipeline import Pipeline
from dnsqmon.render.batch import Clock
from seams import ListSink, ListSource
from seed_rows import SEED_ROWS, batch_of
from traffic import sensor


def pipeline(*sinks: ListSink, packets: int = 0, records: int = 0) -> Pipeline:
    """Make a pipeline that has counted so much."""
    counters = Counters()
    counters.packets, counters.records = packets, records
    return Pipeline(ListSource([]), sensor(), sinks, counters, Clock(utc=True))


@pytest.mark.parametrize(
    ("packets", "records", "verb", "text"),
    [
        (48, 5, "read", "Total packets read: 48 - Inspected DNS Queries: 5 (10.4%)."),
        (48, 0, "read", "Total packets read: 48 - Inspected DNS Queries: 0."),
        (0, 0, "read", "Total packets read: 0 - Inspected DNS Queries: 0."),
        (3, 3, "received", "Total packets received: 3 - Inspected DNS Queries: 3 (100.0%)."),
        # A TCP segment can hold more than one query.
        (1, 2, "read", "Total packets read: 1 - Inspected DNS Queries: 2 (200.0%)."),
    ],
)
def test_closing_line(packets: int, records: int, verb: str, text: str) -> None:
    """The closing line is the original's, with a percentage where there is a query."""
    out = io.StringIO()
    Status(pipeline(packets=packets, records=records), out, 15, None).show(verb)
    assert out.getvalue() == f"[+] {text}\n"


@pytest.mark.parametrize("name", ["csv", "sqlite"])
def test_new_records_since_the_line_before(name: str) -> None:
    """With -w each line tells what was written since the one before, whatever else is written."""
    out, file = io.StringIO(), ListSink(name)
    run = pipeline(ListSink("screen"), file, packets=9, records=3)
    status = Status(run, out, 15, "queries.out")
    for rows in (SEED_ROWS[:2], [], SEED_ROWS[2:3]):
        file.write(batch_of(rows))
        status.show()
    assert [line.partition("%) - ")[2] for line in out.getvalue().splitlines()] == [
        f"{number} new records written to queries.out." for number in (2, 0, 1)
    ]


def test_live_line_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live run shows its line every so many seconds, as the original did."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    out = io.StringIO()
    status = Status(pipeline(packets=48, records=5), out, 15, None)
    status.show_if_due()
    now += 14.9
    status.show_if_due()
    assert out.getvalue() == ""
    now += 0.1
    status.show_if_due()
    status.show_if_due()
    assert out.getvalue() == (
        "[+] Total packets received: 48 - Inspected DNS Queries: 5 (10.4%). "
        "Next update in 15.00 seconds.\n"
    )
    now += 15
    status.show_if_due()
    assert out.getvalue().count("\n") == 2


def test_nobody_reads() -> None:
    """Without a stream nothing is written, and nothing fails."""
    status = Status(pipeline(), None, 15, None)
    status.tell("Reading packets from PCAP file.")
    status.show()


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ("pipe", ClosedOutputError, "standard output was closed"),
        ("/dev/full", SinkError, "cannot write to standard output: No space left on device"),
    ],
)
def test_stream_that_fails(target: str, error: type[SinkError], text: str) -> None:
    """A reader that went away and a full disk are errors of the sink's kind."""
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(target, os.O_WRONLY)
    with os.fdopen(writer, "w", encoding="ascii") as stream:
        with pytest.raises(SinkError) as caught:
            Status(pipeline(), stream, 15, None).tell("Reading packets from PCAP file.")
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - for its descriptor
            os.dup2(nowhere.fileno(), stream.fileno())  # the stream flushes once more as it closes
    assert type(caught.value) is error
    assert str(caught.value) == text
