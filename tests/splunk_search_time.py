"""Do what Splunk does from raw bytes to search results, as far as this app's confs ask for it.

Regular expressions run on PCRE2, as in splunkd. The order is that of props.conf.spec: line
breaking, time stamp, TRANSFORMS at index time; EXTRACT, REPORT, KV_MODE, FIELDALIAS, EVAL, LOOKUP
at search time; then event types and tags. A setting that is not known here is an error, no guess.
"""

from __future__ import annotations

import csv
import datetime as dt
import fnmatch
import ipaddress
import json
import re
import shlex
import time
from typing import TYPE_CHECKING

import pcre2

from browser.expressions import parse_eval, parse_search, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Conf = dict[str, dict[str, str]]
Event = dict[str, str]

#: The original README's names of the 14 fields, in their order.
QUERY_FIELDS = (
    "QueryDate", "QueryTime", "QueryHostName", "QuerySrcAddr", "QuerySrcPort", "QueryDstAddr",
    "QueryDstPort", "QueryRecordType", "QueryDomain", "QueryTLD", "QuerySLD", "QueryLevels",
    "QueryScore", "QueryFlags",
)  # fmt: skip
#: Settings that say how data is described or sent, and change no event here.
_DESCRIPTIVE = {
    "description", "category", "pulldown_type", "NO_BINARY_CHECK",
    "EVENT_BREAKER_ENABLE", "EVENT_BREAKER",
}  # fmt: skip
_INDEX_TIME = {
    "SHOULD_LINEMERGE", "LINE_BREAKER", "TRUNCATE", "CHARSET", "TIME_PREFIX", "TIME_FORMAT",
    "MAX_TIMESTAMP_LOOKAHEAD", "MAX_DAYS_AGO", "sourcetype",
}  # fmt: skip
_SEARCH_TIME = ("EXTRACT-", "REPORT-", "KV_MODE", "FIELDALIAS-", "EVAL-", "LOOKUP-", "TRANSFORMS-")


def read_conf(path: Path) -> Conf:
    """Read a .conf file: stanza -> setting -> value; ValueError for what Splunk would not read."""
    conf: Conf = {}
    stanza: dict[str, str] | None = None
    for number, line in enumerate(_joined(path.read_text("utf-8")), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("[") and line.rstrip().endswith("]"):
            name = line.rstrip()[1:-1]
            if name in conf:
                raise ValueError(f"{path.name}:{number}: stanza [{name}] stands there twice")
            stanza = conf[name] = {}
            continue
        key, equals, value = line.partition("=")
        if not equals or stanza is None:
            raise ValueError(f"{path.name}:{number}: neither stanza nor setting: {line}")
        if key.strip() in stanza:
            raise ValueError(f"{path.name}:{number}: {key.strip()} stands there twice")
        stanza[key.strip()] = value.strip()
    return conf


def _joined(text: str) -> Iterator[str]:
    """Join the lines that end in a backslash with their next one."""
    held = ""
    for line in text.split("\n"):
        if line.endswith("\\"):
            held += line[:-1] + "\n"
        else:
            yield held + line
            held = ""


class App:
    """The confs and lookups below one app's folder, applied to data."""

    def __init__(self, root: Path) -> None:
        default = root / "default"
        self.props = read_conf(default / "props.conf")
        self.transforms = read_conf(default / "transforms.conf")
        self.eventtypes = read_conf(default / "eventtypes.conf")
        self.tags = read_conf(default / "tags.conf")
        self._lookups = root / "lookups"
        self._tables: dict[str, list[dict[str, str]]] = {}
        for stanza in self.props.values():
            for key in stanza:
                if key not in _DESCRIPTIVE | _INDEX_TIME and not key.startswith(_SEARCH_TIME):
                    raise ValueError(f"props.conf: {key} is not known here")

    def index(
        self,
        data: bytes,
        sourcetype: str,
        *,
        host: str = "forwarder",
        source: str = "test",
        now: float | None = None,
    ) -> list[Event]:
        """Break raw bytes into events with `_raw`, `_time`, `host`, `source` and `sourcetype`.

        Times without a zone are read as UTC.
        """
        props = self.props[sourcetype]
        if props["SHOULD_LINEMERGE"] != "false":
            raise ValueError("line merging is not done here")
        text = data.decode(props.get("CHARSET", "UTF-8"))
        events = []
        for line in _broken(text, props["LINE_BREAKER"]):
            raw = line.encode()[: int(props["TRUNCATE"])].decode(errors="ignore")
            when = _time_of(raw, props, time.time() if now is None else now)
            event = {
                "_raw": raw, "_time": f"{when:.6f}", "host": host, "source": source,
                "sourcetype": sourcetype,
            }  # fmt: skip
            if self._transformed(event, props):
                events.append(event)
        return events

    def _transformed(self, event: Event, props: dict[str, str]) -> bool:
        """Apply the index-time transforms; say whether the event is kept."""
        for name in _listed(props, "TRANSFORMS-"):
            transform = self.transforms[name]
            match = pcre2.search(transform["REGEX"], event["_raw"])
            if match is None:
                continue
            value = _filled(transform["FORMAT"], match)
            if transform["DEST_KEY"] == "queue" and value == "nullQueue":
                return False
            if transform["DEST_KEY"] != "MetaData:Host":
                raise ValueError(f"DEST_KEY {transform['DEST_KEY']} is not known here")
            event["host"] = value.partition("::")[2]
        return True

    def search(self, event: Event) -> Event:
        """Return the event with its search-time fields."""
        props = self.props[event["sourcetype"]]
        found = dict(event)
        for key in sorted(key for key in props if key.startswith("EXTRACT-")):
            _add(found, _named(pcre2.search(f"(?ms){props[key]}", found["_raw"])))
        for name in _listed(props, "REPORT-"):
            _add(found, self._reported(name, found["_raw"]))
        if props.get("KV_MODE") == "json":
            _add(found, {k: text_of(v) for k, v in json.loads(found["_raw"]).items()})
        for key in sorted(key for key in props if key.startswith("FIELDALIAS-")):
            _alias(found, props[key])
        before = dict(found)
        for key in [key for key in props if key.startswith("EVAL-")]:
            value = parse_eval(props[key], float(event["_time"]))(before)
            found.pop(key[5:], None)
            if value is not None:
                found[key[5:]] = text_of(value)
        for key in sorted(key for key in props if key.startswith("LOOKUP-")):
            self._look_up(found, props[key])
        return found

    def _reported(self, name: str, raw: str) -> Event:
        transform = self.transforms[name]
        match = pcre2.search(transform["REGEX"], raw)
        if match is None or "FORMAT" not in transform:
            return _named(match)
        pairs = (pair.partition("::") for pair in transform["FORMAT"].split())
        return {field: _filled(value, match) for field, _, value in pairs}

    def _look_up(self, event: Event, rule: str) -> None:
        """Apply a LOOKUP: `table field [AS field] ... OUTPUT[NEW] field [AS field] ...`."""
        words = shlex.split(rule)
        name, words = words[0], words[1:]
        at = next(i for i, word in enumerate(words) if word in ("OUTPUT", "OUTPUTNEW"))
        keys, outputs = _renamed(words[:at]), _renamed(words[at + 1 :])
        row = self.lookup(name, {column: event.get(field) for column, field in keys})
        for column, field in outputs:
            if row.get(column) and (words[at] == "OUTPUT" or field not in event):
                event[field] = row[column]

    def lookup(self, name: str, wanted: dict[str, str | None]) -> dict[str, str]:
        """Return the first row of a table that matches every wanted column, or nothing."""
        if None in wanted.values():
            return {}
        transform = self.transforms[name]
        pairs = re.findall(r"(\w+)\((\w+)\)", transform.get("match_type", ""))
        kinds = {column: kind for kind, column in pairs}
        fold = transform.get("case_sensitive_match") == "false"
        for row in self.table(name):
            if all(
                _matches(row[column], value or "", kinds.get(column, "EXACT"), fold=fold)
                for column, value in wanted.items()
            ):
                return row
        return {}

    def table(self, name: str) -> list[dict[str, str]]:
        """Read the CSV file of a lookup."""
        if name not in self._tables:
            path = self._lookups / self.transforms[name]["filename"]
            with path.open(encoding="utf-8", newline="") as file:
                self._tables[name] = list(csv.DictReader(file))
        return self._tables[name]

    def event_types(self, fields: Event) -> list[str]:
        """Name the event types whose search finds the event."""
        return [
            name
            for name, stanza in self.eventtypes.items()
            if parse_search(stanza["search"])(fields)
        ]

    def tags_of(self, fields: Event) -> set[str]:
        """Return the tags that the event's types and field values carry."""
        pairs = [f"eventtype={name}" for name in self.event_types(fields)]
        pairs += [f"{field}={value}" for field, value in fields.items()]
        return {
            tag
            for pair in pairs
            for tag, state in self.tags.get(pair, {}).items()
            if state == "enabled"
        }


def _broken(text: str, breaker: str) -> Iterator[str]:
    """Break at each match of LINE_BREAKER: what its first group holds belongs to no event."""
    start = 0
    for match in pcre2.finditer(breaker, text):
        yield from filter(None, [text[start : match.start(1)]])
        start = match.end(1)
    yield from filter(None, [text[start:]])


def _time_of(raw: str, props: dict[str, str], now: float) -> float:
    """Read the time stamp as TIME_PREFIX, TIME_FORMAT and the limits say; else it is now."""
    prefix = pcre2.search(props["TIME_PREFIX"], raw)
    if prefix is None:
        return now
    text = raw[prefix.end() : prefix.end() + int(props["MAX_TIMESTAMP_LOOKAHEAD"])]
    form = props["TIME_FORMAT"]
    if form.startswith("%s"):
        found = re.match(r"\d+(?:\.\d{1,6})?", text)
        when = float(found[0]) if found else None
    else:
        when = _parsed(text, form.replace(",%3N", ",%f"))
    if when is None or when < now - 86400 * int(props.get("MAX_DAYS_AGO", "2000")):
        return now
    return when


def _parsed(text: str, form: str) -> float | None:
    try:
        moment = dt.datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set below
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()


def _listed(props: dict[str, str], prefix: str) -> list[str]:
    """Name the transforms of one kind, in the order of their classes."""
    keys = sorted(key for key in props if key.startswith(prefix))
    return [name.strip() for key in keys for name in props[key].split(",")]


def _named(match: pcre2.Match | None) -> Event:
    """Return the named groups that took part in the match and are not empty."""
    return {} if match is None else {k: v for k, v in match.groupdict().items() if v}


def _filled(form: str, match: pcre2.Match) -> str:
    return re.sub(r"\$(\d+)", lambda number: match.group(int(number[1])), form)


def _add(event: Event, fields: Event) -> None:
    """Add fields; the first extraction of a field wins."""
    for name, value in fields.items():
        event.setdefault(name, value)


def _alias(event: Event, rule: str) -> None:
    """Apply `original AS alias ...`; the alias of a missing field is removed."""
    for original, alias in _renamed(shlex.split(rule)):
        event.pop(alias, None)
        if original in event:
            event[alias] = event[original]


def _renamed(words: list[str]) -> list[tuple[str, str]]:
    """Read `a AS b c` as [(a, b), (c, c)]."""
    pairs, rest = [], list(words)
    while rest:
        first = second = rest.pop(0)
        if rest and rest[0].upper() == "AS":
            second = rest[1]
            del rest[:2]
        pairs.append((first, second))
    return pairs


def _matches(cell: str, value: str, kind: str, *, fold: bool) -> bool:
    if kind == "CIDR":
        try:
            return ipaddress.ip_address(value) in ipaddress.ip_network(cell, strict=False)
        except ValueError:
            return False
    if fold:
        cell, value = cell.lower(), value.lower()
    return fnmatch.fnmatchcase(value, cell) if kind == "WILDCARD" else cell == value


def events_of(app: App, lines: Iterable[bytes], sourcetype: str = "dnsqmon") -> list[Event]:
    """Index lines and search them: the fields of each event."""
    return [app.search(event) for event in app.index(b"\n".join(lines) + b"\n", sourcetype)]
