"""`score.first_seen`: what is remembered, what is forgotten, and what survives a restart."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

import craft
from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.core.record import FrameBatch
from dnsqmon.score.first_seen import FirstSeen
from traffic import query, sensor, take, verdict

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9
FIX = "name a state file of dnsqmon's or a new one"


def rows(path: Path) -> list[tuple[str, int, int, int]]:
    """Read a state file as any other program would."""
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT sld, first_ns, last_ns, count FROM seen ORDER BY sld")
        values = found.fetchall()
    database.close()
    return values


def seen_at(stages: FirstSeen, *domains: str) -> None:
    """Remember domains, one a second."""
    for number, sld in enumerate(domains):
        stages.add(sld, number * SECOND)


def test_flag_once_per_second_level_domain() -> None:
    """The first query below an SLD sets f, whatever its type or source; the root is one as well."""
    stages = sensor()
    records = take(
        stages,
        query("www.example.com"), query("example.com", "192.0.2.1", qtype=28),
        query("WWW.EXAMPLE.COM"), query("www.example.org"), query("."), query("."),
    )  # fmt: skip
    assert ["f" in record[12] for record in records] == [True, False, False, True, True, False]
    assert stages.counts() == {"first_seen_domains": 3, "first_seen_evicted": 0}


def test_times_and_count() -> None:
    """First and last are the earliest and the latest packet, in whatever order they come."""
    seen = FirstSeen(10)
    stages = sensor(first_seen=seen)
    frame = query("example.com")
    for second in (5, 9, 2, 7):
        stages.take(FrameBatch(craft.ETHERNET, [(second * SECOND, frame)]))
    site = seen.sites["example.com"]
    assert (site.first_ns, site.last_ns, site.count) == (2 * SECOND, 9 * SECOND, 4)


def test_eviction_takes_the_longest_unseen_eighth() -> None:
    """A domain too many forgets the eighth unseen for longest, and says so; the others stay."""
    seen = FirstSeen(16)
    names = [f"site-{number:02}.com" for number in range(16)]
    stages = sensor(first_seen=seen)
    take(stages, *map(query, names))
    later = [(craft.TIME + 60 * SECOND, query(names[0]))]
    assert verdict(stages.take(FrameBatch(craft.ETHERNET, later))[0]) == (0, "None")
    later = [(craft.TIME + 61 * SECOND, query("new.com"))]
    stages.take(FrameBatch(craft.ETHERNET, later))
    # 16 // 8 and the one for which room is made; site-00 was seen again since.
    assert sorted(seen.sites) == sorted(["new.com", names[0], *names[4:]])
    assert stages.counts() == {"first_seen_domains": 14, "first_seen_evicted": 3}
    later = [(craft.TIME + 62 * SECOND, query(names[1]))]
    assert verdict(stages.take(FrameBatch(craft.ETHERNET, later))[0]) == (5, "f")


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 9, 100])
def test_never_more_than_the_limit(limit: int) -> None:
    """However small the limit, no more domains are remembered, and none is lost uncounted."""
    seen = FirstSeen(limit)
    for number in range(500):
        seen.add(f"site-{number}.com", number)
        assert 1 <= len(seen.sites) <= limit
        assert len(seen.sites) + seen.evicted == number + 1


def test_state_survives_a_restart(tmp_path: Path) -> None:
    """A second run knows what the first saw, with first, last and count."""
    path = tmp_path / "state.db"
    for start in (100, 50, 200):
        seen = FirstSeen(10)
        seen.keep(str(path))
        stages = sensor(first_seen=seen)
        frames = [(start * SECOND, query("a.example.com")), (start * SECOND + 7, query("ab.ru"))]
        records = stages.take(FrameBatch(craft.ETHERNET, frames))
        stages.finish()
        assert ["f" in record[12] for record in records] == [start == 100] * 2
    assert rows(path) == [
        ("ab.ru", 50 * SECOND + 7, 200 * SECOND + 7, 3),
        ("example.com", 50 * SECOND, 200 * SECOND, 3),
    ]


def test_saved_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two batches the state is saved when a minute has passed, and not before."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "state.db"
    seen = FirstSeen(10)
    seen.keep(str(path))
    seen.add("a.com", 1)
    now += 59.9
    seen.save_if_due()
    assert rows(path) == []
    now += 0.1
    seen.save_if_due()
    assert rows(path) == [("a.com", 1, 1, 1)]
    seen.sites["a.com"].count = 5
    seen.add("b.com", 2)
    now += 59.9
    seen.save_if_due()
    assert rows(path) == [("a.com", 1, 1, 1)]
    seen.close()
    assert rows(path) == [("a.com", 1, 1, 5), ("b.com", 2, 2, 1)]


def test_evicted_domains_leave_the_state(tmp_path: Path) -> None:
    """What is forgotten is forgotten on disk too; what came back since is there."""
    path = tmp_path / "state.db"
    seen = FirstSeen(8)
    seen.keep(str(path))
    seen_at(seen, *"abcdefgh")
    seen.save()
    seen.add("i", 8 * SECOND)
    seen.add("a", 9 * SECOND)
    seen.close()
    assert [row[0] for row in rows(path)] == list("acdefghi")
    assert rows(path)[0] == ("a", 9 * SECOND, 9 * SECOND, 1)


def test_smaller_limit_loads_the_newest(tmp_path: Path) -> None:
    """Of a state that holds more than may be remembered, what was seen last is loaded."""
    path = str(tmp_path / "state.db")
    seen = FirstSeen(8)
    seen.keep(path)
    seen_at(seen, *"abcdefgh")
    seen.close()
    seen = FirstSeen(3)
    seen.keep(path)
    assert sorted(seen.sites) == ["f", "g", "h"]
    seen.close()


@pytest.mark.parametrize("time_ns", [2**63, 10**30, -(2**63) - 1])
def test_times_beyond_the_columns(tmp_path: Path, time_ns: int) -> None:
    """A time that a capture claims and 64 bits cannot hold is saved as the nearest they can."""
    path = tmp_path / "state.db"
    seen = FirstSeen(8)
    seen.keep(str(path))
    seen.add("a", time_ns)
    seen.close()
    held = max(-(2**63), min(time_ns, 2**63 - 1))
    assert rows(path) == [("a", held, held, 1)]


def test_file_that_is_no_state(tmp_path: Path) -> None:
    """Garbage, a directory, a cut-off file and another program's table are refused by name."""
    path = tmp_path / "state.db"
    seen = FirstSeen(1000)
    seen.keep(str(path))
    seen_at(seen, *(f"site-{number}.example" for number in range(1000)))
    seen.close()
    whole = path.read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[:9000])
    (tmp_path / "garbage.db").write_bytes(b"this is no database at all " * 100)
    (tmp_path / "folder.db").mkdir()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE seen (domain TEXT)")
    other.close()
    for name, reason in {
        "cut.db": "database disk image is malformed",
        "garbage.db": "file is not a database",
        "folder.db": "unable to open database file",
        "missing/state.db": "unable to open database file",
        "other.db": "no such column: sld",
    }.items():
        seen = FirstSeen(10)
        with pytest.raises(ConfigError) as caught:
            seen.keep(str(tmp_path / name))
        assert str(caught.value) == f"--state {tmp_path / name}: {reason}; {FIX}"
        seen.close()
    assert path.read_bytes() == whole


def test_rows_of_other_types(tmp_path: Path) -> None:
    """Values that another program put in as text are read as the numbers they stand for."""
    path = tmp_path / "state.db"
    seen = FirstSeen(10)
    seen.keep(str(path))
    seen.close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO seen VALUES ('a.com', 'x', 7.9, '3'), (X'ff', 1, 2, 3)")
    other.close()
    seen = FirstSeen(10)
    seen.keep(str(path))
    assert list(seen.sites) == ["a.com"]
    site = seen.sites["a.com"]
    assert (site.first_ns, site.last_ns, site.count) == (0, 7, 3)
    seen.close()


def test_locked_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that another program holds is refused at the start; later it is tried again."""
    connect = sqlite3.connect

    def impatient(path: str, *, check_same_thread: bool = True, **_: object) -> sqlite3.Connection:
        return connect(path, timeout=0, check_same_thread=check_same_thread)

    monkeypatch.setattr(sqlite3, "connect", impatient)
    path = tmp_path / "state.db"
    holder = connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigError) as caught:
        FirstSeen(10).keep(str(path))
    assert str(caught.value) == f"--state {path}: database is locked; {FIX}"
    holder.execute("ROLLBACK")

    seen = FirstSeen(10)
    seen.keep(str(path))
    seen.add("a.com", 1)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SinkError, match=r"state\.db: database is locked; the domains seen are"):
        seen.save()
    holder.execute("ROLLBACK")
    seen.close()
    assert rows(path) == [("a.com", 1, 1, 1)]
    holder.close()


def test_without_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a state file nothing is written."""
    monkeypatch.chdir(tmp_path)
    seen = FirstSeen(10)
    seen.add("a.com", 1)
    seen.save_if_due()
    seen.save()
    seen.close()
    assert list(tmp_path.iterdir()) == []
