"""The aggregate functions of `stats` and its relatives, over lists of events."""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from browser.expressions import Event, Predicate, SplError, number, parse_eval, text_of, tidy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Aggregate(NamedTuple):
    """One `function(argument) AS name`; `value` reads the argument of an event."""

    function: str
    value: Predicate
    name: str

    def over(self, events: Sequence[Event]) -> Any:  # noqa: ANN401 - any SPL value
        """Return the result over the events, None where Splunk leaves the cell empty."""
        if self.function in ("earliest", "latest"):
            timed = [e for e in events if self.value(e) is not None]
            pick = min if self.function == "earliest" else max
            return self.value(pick(timed, key=lambda e: float(e["_time"]))) if timed else None
        values = [v for event in events for v in _values(self.value(event))]
        return FUNCTIONS[self.function](values)


def _values(value: object) -> list[Any]:
    """Drop what `stats` does not count: null; each value of a multivalue field counts."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _numeric(function: Callable[[list[float]], float], least: int = 1) -> Callable[..., Any]:
    def over(values: list[Any]) -> Any:  # noqa: ANN401
        numbers = [found for found in map(number, values) if found is not None]
        return tidy(function(numbers)) if len(numbers) >= least else None

    return over


def _extreme(pick: Callable[..., Any]) -> Callable[..., Any]:
    """Compare as numbers where every value is one, else as text, as min() and max() do."""

    def over(values: list[Any]) -> Any:  # noqa: ANN401
        if not values:
            return None
        if any(number(value) is None for value in values):
            return pick(map(text_of, values))
        return tidy(pick(number(value) for value in values))

    return over


FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "avg": _numeric(statistics.fmean),
    "count": len,
    "dc": lambda values: len(set(map(text_of, values))),
    "last": lambda values: values[-1] if values else None,
    "max": _extreme(max),
    "min": _extreme(min),
    "stdev": _numeric(statistics.stdev, 2),
    "sum": _numeric(sum),
    "values": lambda values: sorted(set(map(text_of, values))) or None,
}

_CALL = re.compile(r"\s*,?\s*(\w+)")
_NAME = re.compile(r'\s+[aA][sS]\s+("[^"]+"|\S+?)(?=[\s,]|$)')


def parse_aggregates(text: str, now: float, present: Sequence[str]) -> list[Aggregate]:
    """Read `count dc(src) AS clients max(eval(score / 2)) AS half sum(loss_*) AS *`.

    `present` are the fields that `*` stands for.
    """
    found, at = [], 0
    while at < len(text.rstrip()):
        head = _CALL.match(text, at)
        if head is None or not _known(head.group(1)):
            raise SplError(f"stats: {text[at:]!r} is outside the subset")
        function, at = head.group(1), head.end()
        argument = ""
        if text[at : at + 1] == "(":
            argument, at = _argument(text, at)
        renamed = _NAME.match(text, at)
        name = f"{function}({argument})" if argument else function
        if renamed is not None:
            name, at = renamed.group(1).strip('"'), renamed.end()
        if "*" in argument and "eval(" not in argument:
            found += _wild(function, argument, name, present)
        else:
            found.append(Aggregate(function, _reader(function, argument, now), name))
    if not text.strip():
        raise SplError("stats: no function")
    return found


def _known(function: str) -> bool:
    return function in FUNCTIONS or function in ("earliest", "latest")


def _wild(function: str, pattern: str, name: str, present: Sequence[str]) -> list[Aggregate]:
    """Expand `sum(loss_*) AS *` to one aggregate a field, named after what its `*` stands for."""
    regex = re.compile(re.escape(pattern).replace(r"\*", "(.*)"))
    matches = [match for field in present if (match := regex.fullmatch(field))]
    return [
        Aggregate(function, _field(match.group()), name.replace("*", match.group(1)))
        for match in matches
    ]


def _argument(text: str, at: int) -> tuple[str, int]:
    """Return what stands between the parenthesis at `at` and its partner, and where that ends."""
    depth = 0
    for index in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return text[at + 1 : index].strip(), index + 1
    raise SplError(f"stats: unbalanced parenthesis in {text!r}")


def _reader(function: str, argument: str, now: float) -> Predicate:
    if not argument:
        if function != "count":
            raise SplError(f"stats: {function}() needs a field")
        return lambda _: 1
    inner = re.fullmatch(r"eval\((.*)\)", argument, re.DOTALL)
    if inner is None:
        return _field(argument.strip("'\""))
    expression = parse_eval(inner.group(1), now)
    if function == "count":
        return lambda event: 1 if expression(event) else None
    return expression


def _field(name: str) -> Predicate:
    return lambda event: event.get(name)


def grouped(events: Iterable[Event], by: Sequence[str]) -> dict[tuple[str, ...], list[Event]]:
    """Group the events by fields, ordered by the key; an event that lacks one belongs nowhere."""
    groups: dict[tuple[str, ...], list[Event]] = {} if by else {(): []}
    for event in events:
        keys: list[tuple[str, ...]] = [()]
        for name in by:
            keys = [(*key, text_of(v)) for key in keys for v in _values(event.get(name))]
        for key in keys:
            groups.setdefault(key, []).append(event)

    def order(key: tuple[str, ...]) -> list[tuple[float, str]]:
        return [(n if (n := number(part)) is not None else float("inf"), part) for part in key]

    return {key: groups[key] for key in sorted(groups, key=order)}
