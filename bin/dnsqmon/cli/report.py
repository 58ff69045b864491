"""`dnsqmon report`: a database of records to tables that answer an examiner's first questions."""

from __future__ import annotations

import argparse
import csv
import ipaddress
import sqlite3
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

from dnsqmon.cli.table import Table, aligned, printable, show
from dnsqmon.core.errors import ClosedOutputError, ConfigError, SinkError
from dnsqmon.core.record import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = {
    "u": "uncommon domain",
    "b": "on the watch list",
    "f": "first seen",
    "l": "long name",
    "s": "short name",
    "d": "asked by a known DNS server",
    "t": "scored top-level domain",
}
_DEFAULT_LIMIT = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `dnsqmon report`."""
    parser.description = (
        "Show what a database holds: an overview, or with options the queries that match all of "
        "them, oldest first; with --min-score the highest score first."
    )
    add = parser.add_argument
    add("database", metavar="<database>", help="File that -w sql wrote, or the original dnsQmon.")
    add("--first-seen", action="store_true", help="First appearances of domains (flag f).")
    add("--watch-or-score", type=_whole, metavar="<score>",
        help="Queries for names on the watch list, or with at least this score.")  # fmt: skip
    add("--keyword", action="append", default=[], type=_ascii, metavar="<word>",
        help="Queries whose name contains this word; given again, any of the words.")  # fmt: skip
    add("--flag", action="append", default=[], choices=tuple(FLAGS),
        help="Queries with this flag; given again, with all of the flags.")  # fmt: skip
    add("--from", dest="start", type=_moment(last=False), metavar="<date time>",
        help="Queries from then on: MM/DD/YYYY or YYYY-MM-DD, then HH:MM:SS or HH:MM if "
        "wanted, as the database has it.")  # fmt: skip
    add("--to", dest="end", type=_moment(last=True), metavar="<date time>",
        help="Queries until then; a date alone means its whole day.")  # fmt: skip
    add("--min-score", type=_whole, metavar="<score>", help="Queries with at least this score.")
    add("--client", type=_address, metavar="<address>", help="Queries of this source address.")
    add("--type", dest="record_type", type=_ascii, metavar="<type>",
        help="Queries for this record type, e.g. PTR.")  # fmt: skip
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--top", type=_whole, metavar="<number>",
        help="One line a domain, this many of the highest-scored ones.")  # fmt: skip
    length.add_argument("--limit", type=_whole, metavar="<number>",
        help=f"At most this many lines (default: {_DEFAULT_LIMIT}; with --csv, all).")  # fmt: skip
    add("--csv", action="store_true", help="Write the matching rows as CSV with a header.")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; ConfigError for an unreadable database, SinkError for a failed write."""
    path = arguments.database
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.text_factory = printable
            _check(connection, path)
            _print(connection, arguments)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(_refusal(error), where=path) from None
    except BrokenPipeError:
        raise ClosedOutputError from None
    except OSError as error:
        raise SinkError(f"cannot write to standard output: {error.strerror}") from None
    return 0


# ---- what is asked of the database ----

#: Date and time of a row as text that sorts, which MM/DD/YYYY does not beyond a year's end.
_WHEN = (
    "substr(Date, 7, 4) || '-' || substr(Date, 1, 2) || '-' || substr(Date, 4, 2) || ' ' || Time"
)
#: Every flag that any row of a group has, in the order of the record.
_ALL_FLAGS = " || ".join(
    f"CASE WHEN max(instr(Flags, '{letter}')) THEN '{letter}' ELSE '' END" for letter in FLAGS
)
_DOMAINS = (
    "Domain, max(Score) AS Score, "
    f"coalesce(nullif({_ALL_FLAGS}, ''), 'None') AS Flags, count(*) AS Queries, "
    f"count(DISTINCT SrcAddr) AS Clients, min({_WHEN}) AS First, max({_WHEN}) AS Last"
)
_BY_SCORE = "max(Queries.Score) DESC, count(*) DESC, Domain"
_CLIENTS = (
    "SrcAddr, count(*) AS Queries, count(DISTINCT Domain) AS Domains, max(Score) AS Score, "
    f"min({_WHEN}) AS First, max({_WHEN}) AS Last"
)


class Question(NamedTuple):
    """Conditions that rows must meet, as SQL, and the values bound to it."""

    where: str
    values: list[object]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Question:
        """Join everything that was asked for by AND."""
        asked: list[tuple[str, list[object]]] = [
            ("instr(Flags, ?)", [flag])
            for flag in dict.fromkeys([*arguments.flag, *("f" * arguments.first_seen)])
        ]
        if arguments.keyword:
            contains = "instr(lower(Domain), lower(?))"
            asked.append((" OR ".join([contains] * len(arguments.keyword)), arguments.keyword))
        asked += [
            (condition, [value])
            for condition, value in (
                ("Score >= ? OR instr(Flags, 'b')", arguments.watch_or_score),
                (f"{_WHEN} >= ?", arguments.start),
                (f"{_WHEN} <= ?", arguments.end),
                ("Score >= ?", arguments.min_score),
                ("SrcAddr = ?", arguments.client),
                ("RecordType = upper(?)", arguments.record_type),
            )
            if value is not None
        ]
        where = " AND ".join(f"({condition})" for condition, _ in asked)
        return cls(where, [value for _, values in asked for value in values])

    def ask(self, connection: sqlite3.Connection, columns: str, rest: str, limit: int) -> Table:
        """Select; `rest` follows WHERE, `limit` is a number of rows or -1 for all."""
        cursor = connection.execute(
            f"SELECT {columns} FROM Queries WHERE {self.where or 1} {rest} LIMIT ?",  # noqa: S608 - made of the constants above
            [*self.values, limit],
        )
        return Table([name for name, *_ in cursor.description], cursor)


def _print(connection: sqlite3.Connection, arguments: argparse.Namespace) -> None:
    """Print the overview, or the one table that was asked for."""
    question = Question.of(arguments)
    wanted = arguments.top or arguments.limit
    if not (question.where or arguments.top or arguments.csv):
        show(_overview(connection, question, wanted or _DEFAULT_LIMIT))
        return
    by_score = "" if arguments.min_score is None else "Score DESC, "
    if arguments.top:
        columns, rest = _DOMAINS, f"GROUP BY Domain ORDER BY {_BY_SCORE}"
    else:
        columns, rest = ", ".join(COLUMNS), f"ORDER BY {by_score}{_WHEN}, rowid"
    if arguments.csv:
        table = question.ask(connection, columns, rest, wanted or -1)
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)
        sys.stdout.flush()
        return
    limit = wanted or _DEFAULT_LIMIT
    table = question.ask(connection, columns, rest, limit + 1)
    rows = list(table.rows)
    show(aligned(Table(table.columns, rows[:limit])))
    if len(rows) > limit and not arguments.top:
        show(["", f"The first {limit}; there are more (--limit <number>, --csv)."])


def _overview(connection: sqlite3.Connection, every: Question, limit: int) -> Iterator[str]:
    """Return the lines that describe the whole database."""
    totals = (
        f"count(*), count(DISTINCT Domain), count(DISTINCT SrcAddr), min({_WHEN}), max({_WHEN})"
    )
    ((queries, domains, clients, first, last),) = every.ask(connection, totals, "", 1).rows
    yield f"{queries} queries for {domains} names by {clients} clients"
    if not queries:
        return
    yield f"from {first} to {last}"
    flags = ", ".join(f"sum(instr(Flags, '{letter}') > 0)" for letter in FLAGS)
    (numbers,) = every.ask(connection, flags, "", 1).rows
    rows = [(letter, number, FLAGS[letter]) for letter, number in zip(FLAGS, numbers) if number]
    sections = {
        "Most queried": _first(connection, "Domain", _DOMAINS, "count(*) DESC, Domain", limit),
        "Busiest clients": _first(connection, "SrcAddr", _CLIENTS, "count(*) DESC, SrcAddr", limit),
        "Flags": Table(("Flag", "Queries", "Meaning"), rows),
        "Highest scores": _first(connection, "Domain", _DOMAINS, _BY_SCORE, limit),
    }
    for title, table in sections.items():
        yield ""
        yield title
        yield from aligned(table)


def _first(connection: sqlite3.Connection, key: str, columns: str, order: str, limit: int) -> Table:
    """Group all rows by `key`, and give the columns of the first `limit` groups.

    The inner query finds the groups by what is cheap to compute; the costly columns are computed
    for these few alone.
    """
    inner = f"SELECT {key} FROM Queries GROUP BY {key} ORDER BY {order} LIMIT {limit}"  # noqa: S608 - constants and a number
    few = Question(f"{key} IN ({inner})", [])
    return few.ask(connection, columns, f"GROUP BY {key} ORDER BY {order}", limit)


def _check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database that has not the table."""
    found = {column for _, column, *_ in connection.execute("PRAGMA table_info(Queries)")}
    lacking = ", ".join(column for column in COLUMNS if column not in found)
    if lacking:
        reason = (
            f"its table Queries lacks the columns {lacking}" if found else "it has no table Queries"
        )
        raise ConfigError(f"{reason}; give a database that -w sql wrote", where=path)


def _refusal(error: sqlite3.Error) -> str:
    """Say why the database cannot be read and what to do."""
    if "not a database" in str(error):
        return "this file is not a SQLite database; give one that -w sql wrote"
    if "readonly" in str(error):
        return (
            "its writer was killed in the middle of a batch, which has to be undone first; "
            "start the writer again, or run: sqlite3 <database> 'SELECT 1 FROM Queries LIMIT 1'"
        )
    return f"cannot read this database: {error}"


# ---- what is typed ----

_FORMATS = {
    "%m/%d/%Y %H:%M:%S": timedelta(),
    "%m/%d/%Y %H:%M": timedelta(seconds=59),
    "%m/%d/%Y": timedelta(hours=23, minutes=59, seconds=59),
    "%Y-%m-%d %H:%M:%S": timedelta(),
    "%Y-%m-%d %H:%M": timedelta(seconds=59),
    "%Y-%m-%d": timedelta(hours=23, minutes=59, seconds=59),
}


def _moment(*, last: bool) -> Callable[[str], str]:
    """Parse a date with or without time to its first or last second, as `YYYY-MM-DD HH:MM:SS`."""

    def parse(text: str) -> str:
        for form, rest in _FORMATS.items():
            try:
                moment = datetime.strptime(text.replace("T", " "), form)  # noqa: DTZ007 - as in the rows
            except ValueError:
                continue
            return (moment + rest * last).strftime("%Y-%m-%d %H:%M:%S")
        raise argparse.ArgumentTypeError(
            f"give MM/DD/YYYY or YYYY-MM-DD, with or without HH:MM:SS, instead of {text!r}"
        )

    return parse


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) < 10**9):
        raise argparse.ArgumentTypeError(f"give a whole number from 1 on instead of {text!r}")
    return int(text)


def _ascii(text: str) -> str:
    if not (text.isascii() and text):
        raise argparse.ArgumentTypeError(
            f"give ASCII characters, other bytes as \\DDD, instead of {text!r}"
        )
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give an IP address instead of {text!r}") from None
