"""`report` and `table`: the original's sample questions, answered from a database of records."""

from __future__ import annotations

import argparse
import csv
import io
import os
import pty
import shlex
import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest

from dnsqmon.cli import report
from dnsqmon.cli.table import Table, aligned, printable
from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.sinks.sqlite import SqliteFile
from needs import need
from seed_rows import HEADER, SEED_ROWS, batch_of, lines_of
from test_sqlite import run_killed

if TYPE_CHECKING:
    from pathlib import Path

ROWS = {int(row[4]): row for row in SEED_ROWS}
WATCHED = [49659, 3294, 64786, 62667, 62487, 58101, 59262, 50717, 52421, 59823]


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of the rows of the original's README, those of 2014 written first."""
    path = tmp_path_factory.mktemp("report") / "que ries%3f?.db"
    sink = SqliteFile(path)
    sink.write(batch_of(sorted(SEED_ROWS, key=lambda row: row[0].endswith("2013"))))
    sink.close()
    return path


def ask(database: Path, options: str = "") -> int:
    """Run the report as the command line does."""
    parser = argparse.ArgumentParser(prog="dnsqmon report")
    report.configure(parser)
    return report.run(parser.parse_args([str(database), *shlex.split(options)]))


QUESTIONS = [
    # The six samples of the original's README.
    ("--first-seen", [10653, 56353, 49300, 28827, 46222, 30873, 41991, 9430, 6511, 54498]),
    ("--watch-or-score 20", WATCHED),
    (
        "--keyword reddit --keyword google --first-seen",
        [10653, 56353, 49300, 46222, 11657, 19023, 36195, 64859, 50810, 48590],
    ),
    ("--from '12/28/2013 11:00:00' --to '12/28/2013 12:11:34' --min-score 11", [64786, 61722]),
    ("--client 10.18.24.123 --type PTR", [51383, 51388, 56279, 52258]),
    # The bounds of a range, to the second, as either kind of date, and over the end of a year.
    ("--from 2013-12-28T12:10:25 --to 2013-12-28T13:33:45", [64786, 62667]),
    ("--from 2013-12-28T12:10:26 --to 2013-12-28T13:33:44", []),
    ("--from '2013-12-28 12:10' --to '12/28/2013 12:10'", [64786]),
    ("--from 12/31/2013 --to 01/03/2014", [62364, 60775, 35701]),
    ("--from 2014-01-08", [37083, 14883]),
    ("--to 12/27/2013", []),
    # Each filter of its own and joined.
    ("--flag s", [35701]),
    ("--flag u --flag l", [51388, 56279, 60775]),
    ("--flag f --first-seen --limit 1", [10653]),
    ("--min-score 41", [3294, 60775, 35701]),
    ("--watch-or-score 45 --from 2013-12-31", [60775, 35701, 14883]),
    ("--keyword HORADRIC --limit 2", [3294, 64786]),
    ("--type aaaa", [60775]),
    ("--client 10.18.23.35", [60775]),
    # Nothing in a word is a pattern, and nothing in a value is SQL.
    ("--keyword %", []),
    ("--keyword reddit_com", []),
    ('--keyword "x\' OR 1=1 --"', []),
    ("--type \"A' OR 'A'='A\"", []),
]


@pytest.mark.parametrize(("options", "ports"), QUESTIONS)
def test_questions(
    database: Path, capsys: pytest.CaptureFixture[str], options: str, ports: list[int]
) -> None:
    """Each question gives its rows and no others, in the order of the samples."""
    assert ask(database, options) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    if not ports:
        assert header == "No matching queries."
        return
    if lines[-1].startswith("The first"):
        del lines[-2:]
    assert header.split() == HEADER.split(",")
    assert [line.split() for line in lines] == [ROWS[port] for port in ports]


@pytest.mark.parametrize(("options", "ports"), QUESTIONS)
def test_questions_as_csv(
    database: Path, capsys: pytest.CaptureFixture[str], options: str, ports: list[int]
) -> None:
    """With --csv the same rows come out as in the CSV file, under its header."""
    assert ask(database, f"--limit 10 {options} --csv") == 0
    assert capsys.readouterr().out.splitlines() == [
        HEADER,
        *lines_of([ROWS[port] for port in ports]),
    ]


def test_csv_is_complete(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --csv every matching row comes out, not only the ten that a table shows."""
    ask(database, "--first-seen --csv")
    expected = lines_of([row for row in SEED_ROWS if "f" in row[13]])
    assert len(expected) > 10
    assert capsys.readouterr().out.splitlines() == [HEADER, *expected]


def test_everything_as_csv(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --csv alone the whole database comes out, oldest first."""
    ask(database, "--csv")
    assert capsys.readouterr().out.splitlines() == [HEADER, *lines_of(SEED_ROWS)]


def test_limit_says_that_there_is_more(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that leaves rows out says so, and one that does not is silent."""
    ask(database, "--flag b --limit 6")
    *_, empty, note = capsys.readouterr().out.splitlines()
    assert (empty, note) == ("", "The first 6; there are more (--limit <number>, --csv).")
    ask(database, "--flag b --limit 7")
    assert "there are more" not in capsys.readouterr().out


def test_top_domains(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--top gives one line a domain, highest score first, with all flags, numbers and range."""
    ask(database, "--top 4 --min-score 26")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["Domain", "Score", "Flags", "Queries", "Clients", "First", "Last"]
    assert [line.split(maxsplit=5) for line in lines] == [
        [*columns.split(), f"{first}  {last}"]
        for columns, first, last in (
            ("horadric.ru 45 uft 5 2", "2013-12-28 03:25:46", "2013-12-31 13:20:32"),
            (
                "google.1234567890.123456890.1234590.ru 45 ult 1 1",
                *["2013-12-31 15:46:31"] * 2,
            ),
            ("ge.tt 41 bsdt 1 1", *["2014-01-03 11:02:39"] * 2),
            ("helplinux.ru 40 udt 1 1", *["2014-01-07 13:37:46"] * 2),
        )
    ]


def test_top_domains_as_csv(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--top and --csv together give the same lines as CSV."""
    ask(database, "--top 1 --csv")
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["Domain", "Score", "Flags", "Queries", "Clients", "First", "Last"],
        ["horadric.ru", "45", "uft", "5", "2", "2013-12-28 03:25:46", "2013-12-31 13:20:32"],
    ]


def test_overview(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a question the report describes the database in numbers that add up."""
    ask(database, "--limit 2")
    sections = [part.splitlines() for part in capsys.readouterr().out.split("\n\n")]
    names, addresses = {row[8] for row in SEED_ROWS}, {row[3] for row in SEED_ROWS}
    assert sections[0] == [
        f"{len(SEED_ROWS)} queries for {len(names)} names by {len(addresses)} clients",
        "from 2013-12-28 02:21:17 to 2014-01-09 10:03:27",
    ]
    assert [section[0] for section in sections[1:]] == [
        "Most queried", "Busiest clients", "Flags", "Highest scores",
    ]  # fmt: skip
    queried, clients, flags, scores = ([line.split() for line in part[2:]] for part in sections[1:])
    assert [(line[0], line[3]) for line in queried] == [
        ("horadric.ru", "5"),
        ("s3.amazonaws.com", "4"),
    ]
    assert [line[:4] for line in clients] == [
        ["10.18.24.123", "22", "22", "45"],
        ["10.18.22.12", "5", "5", "41"],
    ]
    assert {line[0]: int(line[1]) for line in flags} == {
        letter: sum(letter in row[13] for row in SEED_ROWS) for letter in "ubflsdt"
    }
    assert [line[:2] for line in scores] == [
        ["horadric.ru", "45"],
        ["google.1234567890.123456890.1234590.ru", "45"],
    ]


def test_overview_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty database is described in one line."""
    SqliteFile(tmp_path / "queries.db").close()
    ask(tmp_path / "queries.db")
    assert capsys.readouterr().out == "0 queries for 0 names by 0 clients\n"


def test_database_is_only_read(database: Path) -> None:
    """The report leaves the file and its directory as they were."""
    before = database.read_bytes(), list(database.parent.iterdir())
    ask(database)
    assert (database.read_bytes(), list(database.parent.iterdir())) == before


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (None, "cannot read this database: unable to open database file"),
        ("", "this file is not a SQLite database; give one that -w sql wrote"),
        (
            "CREATE TABLE Other (Date)",
            "it has no table Queries; give a database that -w sql wrote",
        ),
        (
            f"CREATE TABLE Queries ({HEADER.replace(',SLD', '').replace(',Flags', '')})",
            "its table Queries lacks the columns SLD, Flags; give a database that -w sql wrote",
        ),
    ],
)
def test_refusals(tmp_path: Path, statement: str | None, reason: str) -> None:
    """A file that is missing, no database or not ours is refused; none is made."""
    path = tmp_path / "queries.db"
    if statement:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()
    elif statement is not None:
        path.write_text(HEADER)
    with pytest.raises(ConfigError) as caught:
        ask(path)
    assert str(caught.value) == f"{path}: {reason}"
    assert path.exists() == (statement is not None)


@pytest.mark.real
def test_writer_that_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A half-written batch is refused with the command that undoes it, and that command does."""
    need("sqlite3")
    path = tmp_path / "queries.db"
    run_killed(path)
    with pytest.raises(
        ConfigError, match="its writer was killed in the middle of a batch"
    ) as caught:
        ask(path)
    command = str(caught.value).partition("run: ")[2].replace("<database>", shlex.quote(str(path)))
    assert os.system(command) == 0
    ask(path)
    assert capsys.readouterr().out == "0 queries for 0 names by 0 clients\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--from yesterday", "argument --from: give MM/DD/YYYY or YYYY-MM-DD, with or without"),
        ("--to 2013-02-30", "argument --to: give MM/DD/YYYY"),
        ("--to 28/12/2013", "argument --to: give MM/DD/YYYY"),
        ("--client example.com", "argument --client: give an IP address instead of 'example.com'"),
        ("--top 0", "argument --top: give a whole number from 1 on instead of '0'"),
        ("--limit -1", "argument --limit: "),
        ("--min-score 9999999999", "argument --min-score: give a whole number"),
        (
            "--keyword b\u00fccher",
            "argument --keyword: give ASCII characters, other bytes as \\DDD",
        ),
        ("--flag x", "argument --flag: invalid choice: 'x'"),
        ("--top 3 --limit 3", "argument --limit: not allowed with argument --top"),
    ],
)
def test_bad_options(
    database: Path, capsys: pytest.CaptureFixture[str], options: str, reason: str
) -> None:
    """An option that cannot be meant is refused with its name, the value and the fix."""
    with pytest.raises(SystemExit) as caught:
        ask(database, options)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_hostile_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r"""Bytes that could harm a terminal, which the original stored, are shown as \DDD."""
    path = tmp_path / "queries.db"
    SqliteFile(path).close()
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO Queries VALUES ('12/28/2013', '02:21:17', 'roonet', ?, 1, NULL, 53, 'A', "
        "CAST(? AS TEXT), X'1B5D', 1.5, NULL, 5, 'f')",
        ("10.18.24.123", b"\x1b[2J\x00\xff,\r\n"),
    )
    connection.commit()
    connection.close()
    for options in "", "--first-seen", "--first-seen --csv", "--top 1":
        ask(path, options)
        shown = capsys.readouterr().out
        assert "\\027[2J\\000\\255,\\013\\010" in shown
        assert all(char.isprintable() for char in shown.replace("\n", ""))


def test_printable() -> None:
    """Printable ASCII is left as it is, every other byte becomes three digits."""
    assert printable(bytes(range(0x20, 0x7F))) == bytes(range(0x20, 0x7F)).decode()
    for byte in {*range(256)} - {*range(0x20, 0x7F)}:
        assert printable(b"a" + bytes([byte])) == f"a\\{byte:03d}"


def test_alignment() -> None:
    """Text stands to the left, whole numbers to the right, without trailing blanks."""
    rows = [("a", 7, None, "x"), ("bbbb", 12345, "y", "z")]
    assert list(aligned(Table(("Name", "N", "Text", "Last"), rows))) == [
        "Name      N  Text  Last",
        "a         7        x",
        "bbbb  12345  y     z",
    ]


def test_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal that is too narrow names are cut, and marked so; nothing else is."""
    terminal, program = pty.openpty()
    with os.fdopen(program, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", "40")
        table = Table(("Domain", "First"), [("a" * 30, "2013-12-28 02:21:17"), ("b", "-")])
        lines = list(aligned(table))
        monkeypatch.setenv("COLUMNS", "10")
        narrowest = list(aligned(table))
        monkeypatch.undo()
    os.close(terminal)
    assert lines[1] == "a" * 16 + "...  2013-12-28 02:21:17"
    assert narrowest[1] == "a" * 13 + "...  2013-12-28 02:21:17"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("pipe", "standard output was closed"),
        ("/dev/full", "cannot write to standard output: No space left on device"),
    ],
)
def test_output_that_fails(
    database: Path, monkeypatch: pytest.MonkeyPatch, target: str, text: str
) -> None:
    """A reader that went away, such as head, and a full disk end the report with SinkError."""
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(target, os.O_WRONLY)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SinkError) as caught:
            ask(database)
        monkeypatch.undo()
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - for its descriptor
            os.dup2(nowhere.fileno(), stream.fileno())  # the stream flushes once more as it closes
    assert str(caught.value) == text
