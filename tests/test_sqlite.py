"""`sinks.sqlite`: the original's table, whole batches, and its README's queries on them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.core.record import COLUMNS
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.sinks.sqlite import SqliteFile
from needs import ROOT, need
from seed_rows import HEADER, SEED_ROWS, batch_of
from small_disk import plain_user, small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from dnsqmon.core.record import Record

FIRST, SECOND = SEED_ROWS[:3], SEED_ROWS[3:7]
NUMBERS = (4, 6, 11, 12)


def values(rows: list[list[str]]) -> list[tuple[object, ...]]:
    """Return rows as the database holds them: ports, levels and score are integers."""
    return [
        tuple(int(text) if index in NUMBERS else text for index, text in enumerate(row))
        for row in rows
    ]


def stored(path: Path) -> list[tuple[object, ...]]:
    """Read all rows in the order in which they were written."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM Queries ORDER BY rowid").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return rows


def write(path: Path, *batches: list[list[str]]) -> SqliteFile:
    """Write batches through a sink of their own."""
    sink = SqliteFile(path)
    for rows in batches:
        sink.write(batch_of(rows))
    sink.close()
    return sink


def make(path: Path, *statements: str) -> None:
    """Make a database without the sink."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_table_of_the_original(tmp_path: Path) -> None:
    """The table has the original's columns with its declared types."""
    path = tmp_path / "queries.db"
    write(path)
    connection = sqlite3.connect(path)
    columns = connection.execute(
        "SELECT name, lower(type) FROM pragma_table_info('Queries')"
    ).fetchall()
    connection.close()
    assert columns == [
        ("Date", "numeric"), ("Time", "numeric"), ("Hostname", "text"), ("SrcAddr", "text"),
        ("SrcPort", "numeric"), ("DstAddr", "text"), ("DstPort", "numeric"),
        ("RecordType", "text"), ("Domain", "text"), ("TLD", "text"), ("SLD", "text"),
        ("Levels", "numeric"), ("Score", "numeric"), ("Flags", "text"),
    ]  # fmt: skip


def test_appends(tmp_path: Path) -> None:
    """Rows of a second run follow those of the first, numbers stored as integers."""
    path = tmp_path / "queries.db"
    assert write(path, FIRST, []).counts() == {"written": 3, "lost_write_error": 0}
    write(path, SECOND)
    assert stored(path) == values(FIRST + SECOND)
    assert [type(value) for value in stored(path)[0]].count(int) == len(NUMBERS)


def test_database_of_the_original_is_appended_to(tmp_path: Path) -> None:
    """A database that the original made, whose numbers came as text, goes on."""
    path = tmp_path / "queries.db"
    types = [
        "numeric" if name in {"Date", "Time", "SrcPort", "DstPort", "Levels", "Score"} else "text"
        for name in COLUMNS
    ]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, types))
    row = ", ".join(f"'{text}'" for text in FIRST[0])
    make(path, f"CREATE TABLE Queries({columns})", f"INSERT INTO Queries VALUES({row})")
    write(path, SECOND)
    assert stored(path) == values(FIRST[:1] + SECOND)


def test_one_file(tmp_path: Path) -> None:
    """Between two batches and after the end the database is one file without companions."""
    path = tmp_path / "queries.db"
    sink = SqliteFile(path)
    assert list(tmp_path.iterdir()) == [path]
    sink.write(batch_of(FIRST))
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "queries.db"
    copy.write_bytes(path.read_bytes())
    sink.close()
    assert stored(copy) == values(FIRST)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "queries.db"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER.encode() + b"\n", "this file is not a SQLite database; name another file"),
        (bytes(100), "this file is not a SQLite database; name another file"),
    ],
)
def test_file_that_is_no_database(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file of another kind is refused and not touched."""
    path = tmp_path / "queries.db"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        SqliteFile(path)
    assert str(caught.value) == f"{path}: {reason}"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("Date, Time", "Date, Time"),
        (", ".join((*COLUMNS, "Extra")), ", ".join((*COLUMNS, "Extra"))),
        (", ".join(reversed(COLUMNS)), ", ".join(reversed(COLUMNS))),
    ],
)
def test_other_table_of_that_name(tmp_path: Path, columns: str, named: str) -> None:
    """A table Queries with other columns is refused and not touched."""
    path = tmp_path / "queries.db"
    make(path, f"CREATE TABLE Queries ({columns})")
    before = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        SqliteFile(path)
    assert str(caught.value) == (
        f"{path}: its table Queries has the columns {named} instead of {', '.join(COLUMNS)}; "
        "name another file"
    )
    assert path.read_bytes() == before


def test_directory_that_is_missing(tmp_path: Path) -> None:
    """A path in no directory is refused with path, reason and fix."""
    path = tmp_path / "missing" / "queries.db"
    with pytest.raises(ConfigError) as caught:
        SqliteFile(path)
    assert str(caught.value) == (
        f"{path}: cannot write this database: unable to open database file; "
        "name a file in a directory that exists, is writable and has room"
    )


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "reason"),
    [
        (0o400, 0o700, "attempt to write a readonly database"),
        (0o600, 0o500, "attempt to write a readonly database"),
        (0o000, 0o700, "unable to open database file"),
    ],
)
def test_database_that_may_not_be_written(file_mode: int, folder_mode: int, reason: str) -> None:
    """Rights that are lacking, to the file or to put a journal beside it, are found at once."""
    with plain_user() as folder:
        path = folder / "queries.db"
        write(path, FIRST)
        path.chmod(file_mode)
        folder.chmod(folder_mode)
        with pytest.raises(ConfigError, match=f"cannot write this database: {reason}; name a"):
            SqliteFile(path)


def test_locked_by_another_writer(tmp_path: Path) -> None:
    """A batch that met a lock is refused whole, and taken once the lock is gone."""
    path = tmp_path / "queries.db"
    sink = SqliteFile(path, patience=0.05)
    sink.write(batch_of(FIRST))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkError) as caught:
        sink.write(batch_of(SECOND))
    assert str(caught.value) == (
        f"{path}: cannot write: database is locked: another program kept it so for 0.05 seconds"
    )
    assert caught.value.lost == len(SECOND)
    other.execute("ROLLBACK")
    other.close()
    sink.write(batch_of(SECOND))
    sink.close()
    assert stored(path) == values(FIRST + SECOND)
    assert sink.counts() == {"written": 7, "lost_write_error": 4}


def test_locked_by_a_reader(tmp_path: Path) -> None:
    """A reader in the middle of its query holds a batch up; none of it is written twice."""
    path = tmp_path / "queries.db"
    sink = SqliteFile(path, patience=0.05)
    sink.write(batch_of(FIRST))
    reader = sqlite3.connect(path)
    cursor = reader.execute("SELECT * FROM Queries")
    cursor.fetchone()
    with pytest.raises(SinkError, match="database is locked"):
        sink.write(batch_of(SECOND))
    cursor.close()
    reader.close()
    sink.write(batch_of(SECOND))
    sink.close()
    assert stored(path) == values(FIRST + SECOND)


def test_locked_at_the_start(tmp_path: Path) -> None:
    """A database that another program holds when the sink is made is refused."""
    path = tmp_path / "queries.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigError) as caught:
        SqliteFile(path, patience=0.05)
    other.close()
    assert str(caught.value) == (
        f"{path}: database is locked: another program kept it so for 0.05 seconds; "
        "close that program or name another file"
    )


def test_full_disk(tmp_path: Path) -> None:
    """A batch for which there is no room is rolled back; with room again it is taken."""
    with small_disk(tmp_path, 256) as disk:
        path = disk / "queries.db"
        sink = SqliteFile(path)
        sink.write(batch_of(FIRST))
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(150_000))
        with pytest.raises(SinkError, match=r"queries\.db: cannot write: database or disk is full"):
            sink.write(batch_of(SEED_ROWS * 40))
        assert stored(path) == values(FIRST)
        ballast.unlink()
        sink.write(batch_of(SEED_ROWS * 4))
        sink.close()
        assert stored(path) == values(FIRST + SEED_ROWS * 4)
        assert [entry.name for entry in disk.iterdir()] == ["queries.db"]
    assert sink.counts() == {"written": 3 + 160, "lost_write_error": 1600}


KILLED = """
import os, signal, sys
from dnsqmon.sinks.sqlite import SqliteFile

class Endless:
    def __len__(self):
        return 1
    def __iter__(self):
        for number in range(100_000):  # more than SQLite keeps in memory: the file is changed
            yield ("12/28/2013", "02:21:17", "roonet", "10.18.24.123", number, "10.18.22.12", 53,
                   "A", "www.example.com", "com", "example.com", 3, 5, "f")
        os.kill(os.getpid(), signal.SIGKILL)

class Batch:
    def rows(self):
        return Endless()

SqliteFile(sys.argv[1]).write(Batch())
"""


def run_killed(path: Path) -> None:
    """Let a process write to the database and be killed in the middle of a batch."""
    run = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(run, check=False, env={"PYTHONPATH": str(ROOT / "bin")}).returncode == -9
    assert path.with_name(f"{path.name}-journal").exists()


def test_killed_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """After kill -9 in mid-batch the next run finds the batches before it, whole, and goes on."""
    path = tmp_path / "queries.db"
    write(path, FIRST)
    size = path.stat().st_size
    run_killed(path)
    assert path.stat().st_size > size
    write(path, SECOND)
    assert stored(path) == values(FIRST + SECOND)
    assert list(tmp_path.iterdir()) == [path]


#: The README's sample queries, word for word, and the source ports of the rows that it shows.
SAMPLES = [
    (
        'SELECT * FROM Queries WHERE Flags like "%f%" ORDER BY Date ASC LIMIT 10',
        [10653, 56353, 49300, 28827, 46222, 30873, 41991, 9430, 6511, 54498],
    ),
    (
        'SELECT * FROM Queries WHERE Score >= 20 OR Flags LIKE "%b%" LIMIT 10',
        [49659, 3294, 64786, 62667, 62487, 58101, 59262, 50717, 52421, 59823],
    ),
    (
        (
            'SELECT * FROM Queries WHERE (Domain LIKE "%reddit%" OR Domain LIKE "%google%") '
            'AND Flags LIKE "%f%" LIMIT 10'
        ),
        [10653, 56353, 49300, 46222, 11657, 19023, 36195, 64859, 50810, 48590],
    ),
    (
        (
            'SELECT * FROM Queries WHERE (Date BETWEEN "12/28/2013" AND "12/29/2013") '
            'AND (Time BETWEEN "11:00:00" AND "12:11:34") AND Score > 10 '
            "ORDER BY Score DESC LIMIT 10"
        ),
        [64786, 61722],
    ),
    (
        "SELECT * FROM Queries WHERE Score > 25 GROUP BY Domain ORDER BY Score DESC LIMIT 10",
        [60775, 35701, 36369, 62364, 2035, 37083, 49659, 56865, 34881, 14883],
    ),
    (
        'SELECT * FROM Queries WHERE SrcAddr = "10.18.24.123" AND RecordType = "PTR"',
        [51383, 51388, 56279, 52258],
    ),
]


@pytest.mark.real
@pytest.mark.parametrize(("query", "ports"), SAMPLES)
def test_sample_queries(tmp_path: Path, query: str, ports: list[int]) -> None:
    """Each sample query of the original's README, run by sqlite3, prints the rows it shows."""
    need("sqlite3")
    rows = {int(row[4]): row for row in SEED_ROWS}
    shown = [rows[port] for port in ports]
    grouped = "GROUP BY" in query
    # GROUP BY Domain leaves it to SQLite which of a domain's rows it shows, and the versions
    # differ: the database holds the row that the README shows as the only one with such a score.
    hidden = [row for row in SEED_ROWS if grouped and int(row[12]) > 25 and row not in shown]
    write(tmp_path / "queries.db", [row for row in SEED_ROWS if row not in hidden])
    # Since 3.41 the program takes double-quoted text for a column unless it is told otherwise.
    quotes = ["-cmd", ".dbconfig dqs_dml on"] if sqlite3_version() >= (3, 41) else []
    run = ["sqlite3", *quotes, "--header", "-separator", ",", "queries.db", query]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    header, *printed = (line.split(",") for line in done.stdout.splitlines() if "dqs" not in line)
    assert ",".join(header) == HEADER
    if grouped:  # the versions differ in the order of equal scores as well
        assert [row[12] for row in printed] == [row[12] for row in shown]
        printed.sort()
        shown.sort()
    assert printed == shown


def sqlite3_version() -> tuple[int, ...]:
    """Ask the program sqlite3 for its version."""
    done = subprocess.run(["sqlite3", "--version"], capture_output=True, text=True, check=True)
    return tuple(int(part) for part in done.stdout.split()[0].split("."))


SAFE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
RECORDS = st.tuples(
    st.integers(0, 4_000_000_000_000_000_000), SAFE, SAFE, st.integers(0, 65535), SAFE,
    st.integers(0, 65535), SAFE, SAFE, SAFE, SAFE, st.integers(0, 128), st.integers(0, 1000),
    SAFE, st.just("udp"), st.integers(0, 65535), st.just({}),
)  # fmt: skip


@given(records=st.lists(RECORDS, min_size=1, max_size=5))
def test_values_come_back(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> None:
    """Any 14 safe fields come back as they were, text as text even where it looks like a number."""
    path = tmp_path_factory.mktemp("sqlite") / "queries.db"
    batch = Rendered(records, Clock(utc=True))
    sink = SqliteFile(path)
    sink.write(batch)
    sink.close()
    assert stored(path) == batch.rows()
