"""`sensor`: what is due between two batches, and at the end."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

import craft
from dnsqmon.core.errors import SinkError
from dnsqmon.core.record import FrameBatch
from dnsqmon.score.first_seen import FirstSeen
from traffic import load_lists, noise, query, sensor, take, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(name="messages")
def _messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Return what the program logs."""
    log = logging.getLogger("dnsqmon")
    propagate, log.propagate = log.propagate, True
    caplog.set_level(logging.INFO, "dnsqmon")
    yield caplog
    log.propagate = propagate


def test_counts_what_it_gives() -> None:
    """The records that `take` gives are counted, and all else under its reason."""
    stages = sensor()
    batch = timed([query("a.example"), noise(), query("b.example"), query(b"\xff")])
    assert len(stages.take(FrameBatch(craft.ETHERNET, batch))) == 2
    counters = stages._counters  # noqa: SLF001 - the pipeline holds them otherwise
    assert (counters.packets, counters.records) == (4, 2)
    assert +counters.reasons == {"other_port": 1, "bad_name": 1}
    assert counters.adds_up()


def test_lists_are_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed list is used a second after the last look, not before; with a request at once."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lists = load_lists(tmp_path, watch="a.example")
    stages = sensor(lists=lists)
    take(stages, query("b.example"))

    def flags() -> str:
        stages.keep_up()
        return take(stages, query("b.example"))[0][12]

    assert flags() == "t"
    (tmp_path / "watch.txt").write_text("a.example\nb.example\n")
    now += 0.9
    assert flags() == "t"
    now += 0.1
    assert flags() == "bt"
    (tmp_path / "watch.txt").write_text("a.example\n")
    assert flags() == "bt"
    stages.reload()
    assert flags() == "t"


def test_list_that_is_gone_stays_in_use(tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    """A list that cannot be read any more stays as it was, and the log says so."""
    stages = sensor(lists=load_lists(tmp_path, common="example.com"))
    (tmp_path / "common.txt").unlink()
    stages.reload()
    stages.keep_up()
    assert [message.levelname for message in messages.records] == ["ERROR"]
    assert "the list loaded before stays in use" in messages.records[0].getMessage()
    assert [record[12] for record in take(stages, query("example.com"), query("ab.com"))] == [
        "f", "ufs",
    ]  # fmt: skip


def test_state_that_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    """In mid-run that is a warning and the run goes on; at the end it is the run's failure."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "state.db"
    seen = FirstSeen(10)
    seen.keep(str(path))
    stages = sensor(first_seen=seen)
    take(stages, query("www.example.com"))
    other = sqlite3.connect(path)
    other.execute("DROP TABLE seen")
    other.close()
    now += 60
    stages.keep_up()
    stages.keep_up()
    text = f"--state {path}: no such table: seen; the domains seen are kept in memory"
    assert [message.getMessage() for message in messages.records] == [text]
    assert [record[12] for record in take(stages, query("www.example.com"))] == ["None"]
    with pytest.raises(SinkError) as caught:
        stages.finish()
    assert str(caught.value) == text


def test_counts(tmp_path: Path) -> None:
    """The domains remembered and forgotten are counted, for the account."""
    stages = sensor(first_seen=FirstSeen(2), lists=load_lists(tmp_path))
    take(stages, *(query(f"site-{number}.example") for number in range(5)))
    assert stages.counts() == {"first_seen_domains": 2, "first_seen_evicted": 3}
