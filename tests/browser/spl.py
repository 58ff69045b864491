"""Run SPL over events in memory: the subset that the dashboards use, strict about the rest.

Written from Splunk's Search Reference. A command, an option or a function that is not here is an
SplError, so a dashboard cannot use what was never evaluated.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from typing import TYPE_CHECKING, Callable, NamedTuple

from browser.aggregates import grouped, parse_aggregates
from browser.expressions import Event, SplError, number, parse_eval, parse_search, text_of, tidy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Window(NamedTuple):
    """The time range of a search and the clock, in seconds since the epoch."""

    earliest: float
    latest: float
    now: float


class Results(NamedTuple):
    """Rows and the order of their columns; events have no columns yet."""

    fields: list[str]
    rows: list[Event]


class Knowledge(NamedTuple):
    """What searches may name: macros by name, and lookups.

    `lookup` gives the first row of a named lookup that matches every wanted column, or nothing.
    """

    macros: Mapping[str, str]
    lookup: Callable[[str, Mapping[str, str | None]], Mapping[str, str]]


def run(spl: str, results: Results, window: Window, known: Knowledge) -> Results:
    """Run a search over events, or the commands of a chain search over a base search's rows."""
    spl = expand(spl, known.macros).strip()
    spl = f"search {spl}" if not re.match(r"\||search\s", spl) else spl
    for part in split(spl, "|"):
        name, _, arguments = part.strip().partition(" ")
        if not name:
            continue
        if name not in COMMANDS:
            raise SplError(f"the command {name!r} is outside the subset")
        results = COMMANDS[name](results, arguments.strip(), window, known)
    return results


def expand(spl: str, macros: Mapping[str, str]) -> str:
    """Replace `macros`, also those that macros name."""
    for _ in range(10):
        if "`" not in spl:
            return spl
        for name in re.findall(r"`([^`]*)`", spl):
            if name not in macros:
                raise SplError(f"there is no macro {name!r}")
        spl = re.sub(r"`([^`]*)`", lambda found: macros[found.group(1)], spl)
    raise SplError(f"macros without end in {spl!r}")


def split(text: str, separator: str) -> list[str]:
    """Split at a character outside quotes and parentheses; subsearches are refused."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, char in enumerate(text):
        if char == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "[]":
            raise SplError("subsearches are outside the subset")
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == separator and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    if quoted or depth:
        raise SplError(f"unbalanced quotes or parentheses in {text!r}")
    return [*parts, text[start:]]


def _options(arguments: str, *allowed: str) -> tuple[dict[str, str], str]:
    """Take `key=value` words off the front; the rest belongs to the command."""
    options = {}
    while (word := re.match(r"(\w+)=(\S+)\s*", arguments)) and word.group(1) in allowed:
        options[word.group(1)] = word.group(2).strip('"')
        arguments = arguments[word.end() :]
    return options, arguments


def _names(text: str) -> list[str]:
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]+)"|([^\s,]+)', text)]


def _by(arguments: str) -> tuple[str, list[str]]:
    """Split `count by a, b` at its `by`."""
    parts = re.split(r"\s+by\s+", arguments, flags=re.IGNORECASE)
    return parts[0], _names(parts[1]) if len(parts) > 1 else []


def _with(fields: Sequence[str], *more: str) -> list[str]:
    return [*fields, *(name for name in more if name not in fields)]


def _present(rows: Sequence[Event]) -> list[str]:
    """Name the fields that occur, for `*` in the names that a command takes."""
    return sorted({name for row in rows for name in row})


# ---------------------------------------------------------------- commands: results to results


def _search(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    keep = parse_search(arguments)
    return Results(results.fields, [row for row in results.rows if keep(row)])


def _where(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    keep = parse_eval(arguments, window.now)
    return Results(results.fields, [row for row in results.rows if keep(row) is True])


def _eval(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    fields, rows = results.fields, [dict(row) for row in results.rows]
    for assignment in split(arguments, ","):
        name, equals, text = assignment.partition("=")
        name = name.strip().strip("\"'")
        if not equals or not name:
            raise SplError(f"eval: {assignment!r} assigns nothing")
        value = parse_eval(text, window.now)
        for row in rows:
            row[name] = value(row)
        fields = _with(fields, name)
    return Results(fields, rows)


def _stats(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    text, by = _by(arguments)
    aggregates = parse_aggregates(text, window.now, _present(results.rows))
    rows = []
    counts = any(one.function in ("count", "dc") for one in aggregates)
    if not results.rows and not counts:
        return Results([*by, *(one.name for one in aggregates)], [])
    for key, events in grouped(results.rows, by).items():
        row: Event = dict(zip(by, key))
        row.update((one.name, one.over(events)) for one in aggregates)
        rows.append(row)
    return Results([*by, *(one.name for one in aggregates)], rows)


def _streamstats(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    """Do `streamstats current=f global=f window=1 last(x) AS y by z`: the row before, by group."""
    options, rest = _options(arguments, "current", "global", "window")
    if options != {"current": "f", "global": "f", "window": "1"}:
        raise SplError(f"streamstats: {options} is outside the subset")
    text, by = _by(rest)
    aggregates = parse_aggregates(text, window.now, _present(results.rows))
    before: dict[tuple[str, ...], list[Event]] = {}
    rows = []
    for row in results.rows:
        key = tuple(text_of(row.get(name)) for name in by)
        last = before.get(key, [])
        rows.append({**row, **{one.name: one.over(last) for one in aggregates}})
        before[key] = [row]
    return Results(_with(results.fields, *(one.name for one in aggregates)), rows)


_SPANS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 86400)


def _span(text: str | None, window: Window) -> int:
    """Return the width of a time bin in seconds: the one named, or the finest of at most 100."""
    if text is not None:
        found = re.fullmatch(r"(\d+)([smhd])", text)
        if found is None:
            raise SplError(f"span={text} is outside the subset")
        return int(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2)]
    width = window.latest - window.earliest
    return next((span for span in _SPANS if width / span <= 100), _SPANS[-1])


def _addtotals(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    """Do `addtotals fieldname=x a_*`: one more field, the sum of the named fields of the row."""
    options, rest = _options(arguments, "fieldname")
    rows = []
    for row in results.rows:
        numbers = [
            found
            for name, value in row.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in _names(rest))
            and (found := number(value)) is not None
        ]
        rows.append({**row, options["fieldname"]: tidy(sum(numbers))})
    return Results(_with(results.fields, options["fieldname"]), rows)


def _bin(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    options, rest = _options(arguments, "span")
    if rest.strip() != "_time":
        raise SplError(f"bin: only _time, not {rest!r}")
    span = _span(options.get("span"), window)
    rows = [{**row, "_time": float(row["_time"]) // span * span} for row in results.rows]
    return Results(results.fields, rows)


def _timechart(results: Results, arguments: str, window: Window, _known: Knowledge) -> Results:
    options, rest = _options(arguments, "span", "minspan", "limit")
    span = _span(options.get("span"), window)
    span = max(span, _span(options.get("minspan", "1s"), window))
    rows = [{**row, "_time": float(row["_time"]) // span * span} for row in results.rows]
    first, last = window.earliest // span * span, window.latest
    if window.earliest <= 0:  # all time: from the first event on
        first = min((row["_time"] for row in rows), default=last)
    times = [first + span * n for n in range(max(1, int(-(-(last - first) // span))))]
    limit = int(options.get("limit", 10))
    table = _pivot(Results(results.fields, rows), "_time", rest, window, limit)
    filled = {row["_time"]: row for row in table.rows}
    count = re.match(r"\s*count\b", rest) is not None
    empty = dict.fromkeys(table.fields[1:], 0 if count else None)
    if not results.rows:
        return Results([], [])
    return Results(table.fields, [{**empty, "_time": t, **filled.get(t, {})} for t in times])


def _pivot(results: Results, over: str, arguments: str, window: Window, limit: int) -> Results:
    """Aggregate by `over`, one column a value of the `by` field; the small ones become OTHER."""
    text, by = _by(arguments)
    aggregates = parse_aggregates(text, window.now, _present(results.rows))
    columns = [""]
    rows = results.rows
    if by:
        if len(aggregates) != 1 or len(by) != 1:
            raise SplError(f"{arguments!r}: one function and one field")
        series = grouped(rows, by)
        totals = {key[0]: number(aggregates[0].over(events)) or 0 for key, events in series.items()}
        largest = sorted(totals, key=lambda name: -totals[name])
        keep = set(largest if limit == 0 else largest[:limit])
        rows = [
            {**row, by[0]: name if (name := text_of(row[by[0]])) in keep else "OTHER"}
            for row in rows
            if row.get(by[0]) is not None
        ]
        columns = sorted(keep) + (["OTHER"] if len(keep) < len(totals) else [])
    else:
        columns = [one.name for one in aggregates]
    table = []
    for key, events in grouped(rows, [over]).items():
        row: Event = {over: float(key[0]) if over == "_time" else key[0]}
        if by:
            cells = grouped(events, by)
            row.update((name, aggregates[0].over(cells.get((name,), []))) for name in columns)
        else:
            row.update((one.name, one.over(events)) for one in aggregates)
        table.append(row)
    return Results([over, *columns], table)


def _table(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    names = _names(arguments)
    return Results(names, [{name: row.get(name) for name in names} for row in results.rows])


def _fields(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    drop = arguments.startswith("-")
    names = _names(arguments.lstrip("-+ "))
    if drop:
        names = [name for name in results.fields if name not in names]
    return Results(names, [{name: row.get(name) for name in names} for row in results.rows])


def _sort(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    count = re.match(r"\d+\s*", arguments)
    limit = int(count.group()) if count else 10_000
    rows = list(results.rows)
    keys = re.findall(r'([-+]?)\s*("[^"]+"|[^\s,]+)', arguments[count.end() if count else 0 :])
    for sign, quoted in reversed(keys):
        name = quoted.strip('"')

        def order(row: Event, name: str = name) -> tuple[int, float, str]:
            value = row.get(name)
            parsed = number(value)
            return (0, parsed, "") if parsed is not None else (1, 0, text_of(value).lower())

        present = [row for row in rows if row.get(name) is not None]
        absent = [row for row in rows if row.get(name) is None]
        rows = sorted(present, key=order, reverse=sign == "-") + absent
    return Results(results.fields, rows[:limit] if limit else rows)


def _rename(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    pairs = re.findall(r'("[^"]+"|[^\s,]+)\s+AS\s+("[^"]+"|[^\s,]+)', arguments, re.IGNORECASE)
    names = {old.strip('"'): new.strip('"') for old, new in pairs}
    rows = [{names.get(name, name): value for name, value in row.items()} for row in results.rows]
    return Results([names.get(name, name) for name in results.fields], rows)


def _fillnull(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    options, rest = _options(arguments, "value")
    names = _names(rest) or results.fields
    fill = options.get("value", "0")
    rows = [
        {**row, **{name: fill for name in names if row.get(name) is None}} for row in results.rows
    ]
    return Results(_with(results.fields, *names) if rest else results.fields, rows)


def _transpose(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    """Turn columns into rows: the column's name, then "row 1", "row 2" and so on."""
    options, rest = _options(arguments, "column_name")
    if rest:
        raise SplError(f"transpose: {rest!r} is outside the subset")
    head = options.get("column_name", "column")
    rows = [
        {head: name, **{f"row {n}": row.get(name) for n, row in enumerate(results.rows[:5], 1)}}
        for name in results.fields
    ]
    return Results([head, *(f"row {n + 1}" for n in range(min(5, len(results.rows))))], rows)


def _mvexpand(results: Results, arguments: str, _window: Window, _known: Knowledge) -> Results:
    name, rows = arguments.strip(), []
    for row in results.rows:
        value = row.get(name)
        rows += [{**row, name: one} for one in (value if isinstance(value, list) else [value])]
    return Results(results.fields, rows)


_LOOKUP = re.compile(r"(\S+)\s+(.*?)\s+(OUTPUT|OUTPUTNEW)\s+(.*)", re.DOTALL)


def _lookup(results: Results, arguments: str, _window: Window, known: Knowledge) -> Results:
    found = _LOOKUP.fullmatch(arguments)
    if found is None:
        raise SplError(f"lookup: {arguments!r} is outside the subset")
    inputs, outputs = _pairs(found.group(2)), _pairs(found.group(4))
    rows = []
    for row in results.rows:
        wanted = {
            column: None if row.get(name) is None else text_of(row[name]) for column, name in inputs
        }
        entry = known.lookup(found.group(1), wanted)
        new = {
            name: entry.get(column) or None
            for column, name in outputs
            if found.group(3) == "OUTPUT" or row.get(name) is None
        }
        rows.append({**row, **new})
    return Results(_with(results.fields, *(name for _, name in outputs)), rows)


def _pairs(text: str) -> list[tuple[str, str]]:
    """Read `column AS field, column` as (column, field)."""
    words = re.findall(r"(\w+)(?:\s+AS\s+(\w+))?", text, re.IGNORECASE)
    return [(column, field or column) for column, field in words]


COMMANDS: dict[str, Callable[[Results, str, Window, Knowledge], Results]] = {
    "addtotals": _addtotals,
    "bin": _bin,
    "eval": _eval,
    "fields": _fields,
    "fillnull": _fillnull,
    "lookup": _lookup,
    "mvexpand": _mvexpand,
    "rename": _rename,
    "search": _search,
    "sort": _sort,
    "stats": _stats,
    "streamstats": _streamstats,
    "table": _table,
    "timechart": _timechart,
    "transpose": _transpose,
    "where": _where,
}
#: Commands whose result is rows, not events: a base search must end its events with one.
TRANSFORMING = frozenset({"stats", "table", "timechart", "transpose"})


def relative_time(text: str, now: float) -> float:
    """Return the epoch seconds of `now`, `-24h@h`, `@d`, `0` or a plain number, in UTC."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = re.fullmatch(r"(?:now|(-\d+)([smhdw]))?(?:@([smhd]))?", text)
    if found is None:
        raise SplError(f"the time {text!r} is outside the subset")
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    moment = now + (int(found.group(1)) * units[found.group(2)] if found.group(1) else 0)
    return moment // units[found.group(3)] * units[found.group(3)] if found.group(3) else moment


def iso(seconds: float) -> str:
    """Return a time as Splunk's REST does."""
    moment = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    return moment.isoformat(timespec="milliseconds")
