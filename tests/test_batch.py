"""`render`: a record in each format, rendered once a batch."""

from __future__ import annotations

import csv
import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsqmon.core.names import labels_from_text, text_from_labels
from dnsqmon.core.record import COLUMNS, RECORD_FIELDS
from dnsqmon.render.batch import FORMATS, Clock, Rendered
from seed_rows import SEED_ROWS, lines_of, record
from traffic import query, sensor, take

if TYPE_CHECKING:
    from dnsqmon.core.record import Record

SECOND = 1_000_000_000
#: The sample record of the original's README.
SAMPLE = record([
    "01/01/2014", "15:38:51", "roonet", "10.18.23.35", "60678", "10.18.22.12", "53", "PTR",
    "12.22.18.10.in-addr.arpa", "arpa", "in-addr.arpa", "6", "5", "f",
])  # fmt: skip


def at(time_ns: int) -> Record:
    """Return the sample record another time."""
    return (time_ns, *SAMPLE[1:])


def one(form: str, sample: Record, *, utc: bool = True) -> str:
    """Render one record."""
    (line,) = Rendered([sample], Clock(utc=utc)).lines(form)
    return line


def test_csv_is_the_original_s() -> None:
    """The rows of the original's README come out of their records to the letter."""
    batch = Rendered([record(row) for row in SEED_ROWS], Clock(utc=True))
    assert batch.lines("csv") == lines_of(SEED_ROWS)


def test_rows_hold_the_columns() -> None:
    """`rows` gives 14 values in the columns' order, the numbers among them as int."""
    (row,) = Rendered([SAMPLE], Clock(utc=True)).rows()
    assert dict(zip(COLUMNS, row)) == {
        "Date": "01/01/2014", "Time": "15:38:51", "Hostname": "roonet", "SrcAddr": "10.18.23.35",
        "SrcPort": 60678, "DstAddr": "10.18.22.12", "DstPort": 53, "RecordType": "PTR",
        "Domain": "12.22.18.10.in-addr.arpa", "TLD": "arpa", "SLD": "in-addr.arpa", "Levels": 6,
        "Score": 5, "Flags": "f",
    }  # fmt: skip
    assert len(row) == len(COLUMNS)


def test_screen_numbers_go_on() -> None:
    """The screen line is the original's, and its number counts from the first record of the run."""
    lines = Rendered([SAMPLE, SAMPLE], Clock(utc=True), first_number=41).lines("screen")
    assert lines == [
        f"[-] DNS Packet: {number} - 01/01/2014 15:38:51 - 10.18.23.35:60678 > 10.18.22.12:53 - "
        "PTR Record - Score: 5 Flags: f - 12.22.18.10.in-addr.arpa"
        for number in (41, 42)
    ]


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (1_388_590_731_000_000_000, "1388590731.000000000"),
        (1_388_590_731_123_456_789, "1388590731.123456789"),
        (-1, "-0.000000001"),
        (-1_500_000_000, "-1.500000000"),
        (10**30, f"{10**21}.000000000"),
    ],
)
def test_json_time(time_ns: int, text: str) -> None:
    """JSON carries epoch seconds with every digit that the capture has, before 1970 too."""
    line = one("json", at(time_ns))
    assert line.startswith(f'{{"time":{text},')
    assert json.loads(line, parse_float=Decimal)["time"] * SECOND == time_ns


def test_json_members() -> None:
    """JSON has the record's fields under their names, no flag as empty text, and the reasons."""
    (scored,) = take(sensor(), query("ab.ru"))
    members = json.loads(one("json", scored))
    assert tuple(members) == RECORD_FIELDS
    assert members["score_reasons"] == {"first_seen": 5, "short": 5, "tld": 35}
    assert sum(members["score_reasons"].values()) == members["score"] == 45
    assert members["flags"] == "fst"
    unflagged = (*scored[:12], "None", None, None, None)
    members = json.loads(one("json", unflagged))
    assert [members[name] for name in RECORD_FIELDS[12:]] == ["", None, None, None]


@pytest.mark.parametrize(
    ("time_ns", "stamp"),
    [
        (-(10**20), "01/01/1970,00:00:00"),
        (0, "01/01/1970,00:00:00"),
        (SECOND - 1, "01/01/1970,00:00:00"),
        (1_000_000_000 * SECOND, "09/09/2001,01:46:40"),
        (10**30, "12/30/9999,23:59:59"),
    ],
)
def test_stamps(time_ns: int, stamp: str) -> None:
    """Date and time are those of the packet; what the format cannot hold is the nearest it can."""
    assert one("csv", at(time_ns)).startswith(f"{stamp},roonet,")


def test_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without UTC the zone counts, with its summer time."""
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    time.tzset()
    try:
        winter, summer = at(1_388_590_731 * SECOND), at(1_404_228_231 * SECOND)
        assert one("csv", winter, utc=False).startswith("01/01/2014,10:38:51,")
        assert one("csv", summer, utc=False).startswith("07/01/2014,11:23:51,")
        assert one("csv", summer, utc=True).startswith("07/01/2014,15:23:51,")
        assert one("csv", at(10**30), utc=False).startswith("12/30/9999,18:59:59,")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_more_seconds_than_are_remembered() -> None:
    """However many seconds a capture spans, stamps are right and memory is bounded."""
    clock = Clock(utc=True)
    seconds = [*range(10_000), *range(5)]
    lines = Rendered([at(second * SECOND) for second in seconds], clock).lines("csv")
    expected = [time.strftime("%m/%d/%Y,%H:%M:%S", time.gmtime(second)) for second in seconds]
    assert [line[:19] for line in lines] == expected


def test_rendered_once() -> None:
    """Two sinks of a format get the same lines, not the same work twice."""
    batch = Rendered([SAMPLE], Clock(utc=True))
    for form in FORMATS:
        assert batch.lines(form) is batch.lines(form)
    assert batch.rows() is batch.rows()


def test_empty_batch() -> None:
    """No records give no lines."""
    batch = Rendered([], Clock(utc=True))
    assert [batch.lines(form) for form in FORMATS] == [[] for _ in FORMATS]
    assert batch.rows() == []


@given(
    st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(
        lambda labels: sum(map(len, labels)) + len(labels) < 255
    )
)
def test_any_label_in_every_format(labels: list[bytes]) -> None:
    """Whatever bytes a name has, each format is one printable ASCII line that gives them back."""
    domain = text_from_labels(labels)
    lowered = [label.lower() for label in labels]
    sample = (*SAMPLE[:7], domain, domain, domain, *SAMPLE[10:])
    batch = Rendered([sample], Clock(utc=True))
    for form in FORMATS:
        (line,) = batch.lines(form)
        assert line.isascii()
        assert line.isprintable()
    (fields,) = csv.reader(batch.lines("csv"), strict=True)
    assert len(fields) == len(COLUMNS)
    assert labels_from_text(fields[8]) == lowered
    assert labels_from_text(json.loads(batch.lines("json")[0])["domain"]) == lowered
    assert batch.lines("screen")[0].rpartition(" - ")[2] == domain
    assert batch.rows()[0][8] == domain
