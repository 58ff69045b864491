"""Evaluate the two expression languages of SPL, those of `search` and of `eval`, on one event.

A subset that is strict: a function or an operator that is not in the tables here is an SplError.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import math
import re
from typing import Any, Callable

Event = dict[str, Any]
Predicate = Callable[[Event], Any]


class SplError(Exception):
    """SPL outside the subset, or SPL that Splunk would refuse."""


def number(value: object) -> float | None:
    """Read a number as Splunk does: numbers and text that looks like one, None for the rest."""
    if isinstance(value, bool) or value is None or isinstance(value, list):
        return None
    try:
        parsed = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return parsed if math.isfinite(parsed) else None


def tidy(value: float) -> float | int:
    """Return a whole number back as int, so that 3.0 is shown as 3."""
    return int(value) if value == int(value) else value


def unquote(token: str) -> str:
    """Remove the quotes and the escapes of a quoted string; other tokens stay."""
    if len(token) >= 2 and token[0] == token[-1] == '"':
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    return token


# ---------------------------------------------------------------- search

_SEARCH = re.compile(r'\s*("(?:\\.|[^"\\])*"|!=|<=|>=|[=<>(),]|[^\s=<>!(),"]+)')


def parse_search(text: str) -> Predicate:
    """Compile the terms of a `search`: field comparisons with wildcards, AND, OR, NOT, IN."""
    tokens = _tokens(_SEARCH, text)
    predicate = _any_of(tokens) if tokens else (lambda _: True)
    if tokens:
        raise SplError(f"search: {' '.join(tokens)!r} was not understood")
    return predicate


def _any_of(tokens: list[str]) -> Predicate:
    terms = [_all_of(tokens)]
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        terms.append(_all_of(tokens))
    return lambda event: any(term(event) for term in terms)


def _all_of(tokens: list[str]) -> Predicate:
    terms = []
    while tokens and tokens[0] not in ("OR", ")"):
        if tokens[0] == "AND":
            tokens.pop(0)
        terms.append(_term(tokens))
    if not terms:
        raise SplError("search: a term is missing")
    return lambda event: all(term(event) for term in terms)


def _term(tokens: list[str]) -> Predicate:
    token = tokens.pop(0)
    if token == "NOT":
        inner = _term(tokens)
        return lambda event: not inner(event)
    if token == "(":
        inner = _any_of(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise SplError("search: unbalanced parenthesis")
        return inner
    if tokens and tokens[0] in ("=", "!=", "<", ">", "<=", ">="):
        operator, value = tokens.pop(0), unquote(tokens.pop(0))
        return lambda event: _compare_field(event.get(token), operator, value)
    if tokens and tokens[0].upper() == "IN":
        del tokens[:2]
        values = []
        while (word := tokens.pop(0)) != ")":
            values += [] if word == "," else [unquote(word)]
        return lambda event: any(_compare_field(event.get(token), "=", value) for value in values)
    if token == "*":
        return lambda _: True
    raise SplError(f"search: free text {token!r} (name a field)")


def _compare_field(found: object, operator: str, value: str) -> bool:
    """Compare as `search` does: text without regard to case, `*` matches, any of several values."""
    if found is None:
        return False
    if isinstance(found, list):
        return any(_compare_field(one, operator, value) for one in found)
    left, right = number(found), number(value)
    if operator in ("=", "!="):
        pattern = re.sub(r"([\[?])", r"[\1]", value.lower())
        same = fnmatch.fnmatchcase(str(found).lower(), pattern)
        same = same or (left is not None and left == right)
        return same if operator == "=" else not same
    if left is None or right is None:
        return False
    return bool(_ORDER[operator](left, right))


# ---------------------------------------------------------------- eval

_EVAL = re.compile(
    r"""\s*("(?:\\.|[^"\\])*"|'[^']+'|\d+(?:\.\d+)?|[A-Za-z_]\w*|==|!=|<=|>=|[-=<>+*/%.(),])"""
)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
#: Operators by rising precedence.
_LEVELS = (("OR",), ("AND",), tuple(_ORDER), ("+", "-", "."), ("*", "/", "%"))


def parse_eval(text: str, now: float) -> Predicate:
    """Compile an `eval` or `where` expression; `now` is the clock (seconds) that now() tells."""
    tokens = _tokens(_EVAL, text)
    compiled = _binary(tokens, 0, now)
    if tokens:
        raise SplError(f"eval: {' '.join(tokens)!r} was not understood in {text!r}")
    return compiled


def _binary(tokens: list[str], level: int, now: float) -> Predicate:
    if level == len(_LEVELS):
        return _atom(tokens, now)
    left = _binary(tokens, level + 1, now)
    while tokens and tokens[0].upper() in _LEVELS[level]:
        operator = tokens.pop(0).upper()
        right = _binary(tokens, level + 1, now)
        left = _apply(operator, left, right)
    return left


def _apply(operator: str, left: Predicate, right: Predicate) -> Predicate:
    if operator == "AND":
        return lambda event: bool(left(event)) and bool(right(event))
    if operator == "OR":
        return lambda event: bool(left(event)) or bool(right(event))

    def evaluate(event: Event) -> object:
        one, two = left(event), right(event)
        if one is None or two is None:
            return None
        if operator == ".":
            return text_of(one) + text_of(two)
        first, second = number(one), number(two)
        if operator in _ORDER:
            if first is None or second is None:
                return _ORDER[operator](str(one), str(two))
            return _ORDER[operator](first, second)
        if first is None or second is None:
            return text_of(one) + text_of(two) if operator == "+" else None
        if operator in "/%" and second == 0:
            return None
        return tidy(_ARITHMETIC[operator](first, second))

    return evaluate


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": math.fmod,
}


def _atom(tokens: list[str], now: float) -> Predicate:
    if not tokens:
        raise SplError("eval: an operand is missing")
    token = tokens.pop(0)
    if token.upper() == "NOT":
        inner = _binary(tokens, 2, now)
        return lambda event: not inner(event)
    if token == "-":
        minus = _atom(tokens, now)
        return lambda event: tidy(-(number(minus(event)) or 0))
    if token == "(":
        inner = _binary(tokens, 0, now)
        _close(tokens)
        return inner
    if token[0] == '"':
        return lambda _: unquote(token)
    if token[0].isdigit():
        return lambda _: tidy(float(token))
    if tokens and tokens[0] == "(":
        return _call(token.lower(), tokens, now)
    name = token.strip("'")
    return lambda event: event.get(name)


def _call(name: str, tokens: list[str], now: float) -> Predicate:
    tokens.pop(0)
    arguments: list[Predicate] = []
    while tokens and tokens[0] != ")":
        arguments.append(_binary(tokens, 0, now))
        if tokens and tokens[0] == ",":
            tokens.pop(0)
    _close(tokens)
    if name == "now":
        return lambda _: tidy(now)
    if name == "case":
        pairs = list(zip(arguments[::2], arguments[1::2]))
        return lambda event: next((value(event) for test, value in pairs if test(event)), None)
    if name == "if":
        test, yes, no = arguments
        return lambda event: yes(event) if test(event) else no(event)
    if name not in FUNCTIONS:
        raise SplError(f"eval: the function {name}() is outside the subset")
    return lambda event: FUNCTIONS[name](*(argument(event) for argument in arguments))


def _close(tokens: list[str]) -> None:
    if not tokens or tokens.pop(0) != ")":
        raise SplError("eval: unbalanced parenthesis")


def text_of(value: Any) -> str:  # noqa: ANN401 - any SPL value
    """Return a value as Splunk prints it."""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, float):
        return f"{value:.10g}"
    return " ".join(map(text_of, value)) if isinstance(value, list) else str(value)


def _mv(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _round(value: object, places: object = 0) -> object:
    parsed = number(value)
    if parsed is None:
        return None
    digits = int(number(places) or 0)
    shifted = math.floor(abs(parsed) * 10**digits + 0.5) / 10**digits
    return tidy(math.copysign(shifted, parsed))


def _strftime(value: object, form: str) -> str | None:
    parsed = number(value)
    if parsed is None:
        return None
    return dt.datetime.fromtimestamp(parsed, dt.timezone.utc).strftime(form)


def _duration(value: object) -> str | None:
    """Return tostring(x, "duration"): HH:MM:SS, with days and a plus sign before it."""
    parsed = number(value)
    if parsed is None:
        return None
    days, rest = divmod(int(parsed), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}+{clock}" if days else clock


def _tostring(value: object, form: str = "") -> str | None:
    if form == "duration":
        return _duration(value)
    if form:
        raise SplError(f"eval: tostring(x, {form!r}) is outside the subset")
    return None if value is None else text_of(value)


def _numbers(*values: object) -> list[float]:
    return [found for found in map(number, values) if found is not None]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "coalesce": lambda *values: next((v for v in values if v is not None), None),
    "isnotnull": lambda value: value is not None,
    "isnull": lambda value: value is None,
    "len": lambda value: None if value is None else len(str(value)),
    "match": lambda value, regex: value is not None and re.search(regex, str(value)) is not None,
    "max": lambda *values: tidy(max(_numbers(*values))),
    "min": lambda *values: tidy(min(_numbers(*values))),
    "mvindex": lambda value, at: (_mv(value)[int(at) :] or [None])[0],
    "mvjoin": lambda value, by: None if value is None else by.join(map(text_of, _mv(value))),
    "null": lambda: None,
    "replace": lambda value, regex, by: None if value is None else re.sub(regex, by, str(value)),
    "round": _round,
    "split": lambda value, by: None if value is None else str(value).split(by),
    "strftime": _strftime,
    "tonumber": lambda value: None if number(value) is None else tidy(number(value) or 0),
    "tostring": _tostring,
}


def _tokens(pattern: re.Pattern[str], text: str) -> list[str]:
    found, at, text = [], 0, text.strip()
    while at < len(text):
        match = pattern.match(text, at)
        if match is None:
            raise SplError(f"cannot read {text[at:]!r}")
        found.append(match.group(1))
        at = match.end()
    return found
