"""The searches of the app, word by word: which commands, functions and fields they name."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from needs import ROOT
from splunk_search_time import Conf, read_conf

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = ROOT / "default"
CONFS: dict[str, Conf] = {path.stem: read_conf(path) for path in sorted(DEFAULT.glob("*.conf"))}
MACROS = CONFS["macros"]

#: Words of SPL that name no field.
WORDS = {"AS", "BY", "AND", "OR", "NOT", "IN", "OUTPUT", "OUTPUTNEW", "WHERE", "true", "false"}
#: In these commands `name=` is an assignment or a comparison, in all others an option.
_EXPRESSIONS = {"search", "where", "eval"}
#: Terms of a search that choose its time, not its events' fields.
_TIME_TERMS = {"earliest", "latest", "_index_earliest", "_index_latest"}
_TOKEN = re.compile(r"[+-]?\d[\w@.]*|@\w+|<<FIELD>>|[A-Za-z_][\w.{}]*\*?|\*|[<>=!]+|\S")


class Search(NamedTuple):
    """A search of the app: where it stands, its SPL, and the SPL it continues."""

    where: str
    spl: str
    base: str = ""


def searches() -> Iterator[Search]:
    """Return every search of saved searches, event types and dashboards."""
    for name, stanza in CONFS["savedsearches"].items():
        yield Search(name, stanza["search"])
    for name, stanza in CONFS["eventtypes"].items():
        yield Search(name, stanza["search"])
    for view in sorted((DEFAULT / "data/ui/views").glob("*.xml")):
        definition = json.loads(ET.parse(view).getroot().findtext("definition") or "")
        sources = definition["dataSources"]
        for name, source in sources.items():
            options = source["options"]
            base = sources[options["extend"]]["options"]["query"] if "extend" in options else ""
            yield Search(f"{view.stem} {name}", options["query"], base)


def expand(spl: str) -> str:
    """Replace macros by their definitions, as often as they hold macros themselves."""
    while "`" in spl:
        spl = re.sub(r"`([^`]+)`", lambda found: MACROS[found[1]]["definition"], spl)
    return spl


def bare(spl: str) -> str:
    """Expand macros, and blank out tokens and strings; quotes around field names go."""
    spl = re.sub(r"\$[\w.:]+(\|s)?\$", "0", expand(spl))
    return re.sub(r"'([^']*)'", r"\1", re.sub(r'"(?:\\.|[^"\\])*"', '""', spl))


def stages(spl: str) -> Iterator[tuple[str, list[str]]]:
    """Return the command and the words of each stage, those in subsearches too."""
    for number, stage in enumerate(re.split(r"[|\[\]]", bare(spl))):
        words = _TOKEN.findall(stage)
        if number == 0 and words:
            yield "search", words
        elif words and words[0].isidentifier():
            yield words[0], words[1:]


def assigned(spl: str) -> set[str]:
    """Name the fields that a search makes itself; a name may end in `*`."""
    made = set()
    for command, words in stages(spl):
        padded = ["", *words, "", ""]
        for before, word, after, value in zip(padded, padded[1:], padded[2:], padded[3:]):
            if before in ("AS", "as") or (
                command == "eval" and after == "=" and before in ("", ",")
            ):
                made.add(word)
            if word in ("fieldname", "column_name") and after == "=":
                made.add(value)
            if word == "count" and after != "(":
                made.add(word)
        if command == "foreach":
            made |= set(words)
    return made


def used(spl: str) -> set[str]:
    """Name the fields that a search reads, as far as they stand there without quotes."""
    names = set()
    for command, words in stages(spl):
        if command in ("lookup", "inputlookup", "outputlookup", "return", "foreach"):
            continue
        before, listed = "", False
        for word, after in zip(words, [*words[1:], ""]):
            value = before[:1] in "<>=!" and before and command not in {"where", "eval"}
            option = after == "=" and command not in _EXPRESSIONS
            listed = (listed or before == "IN") and before != ")"
            name = word[0].isalpha() or word[0] == "_"
            if name and not (value or option or listed or after == "(" or before in ("AS", "as")):
                names.add(word)
            before = word
    return names - WORDS - _TIME_TERMS


def unknown(names: set[str], known: set[str]) -> set[str]:
    """Return the names that are neither known nor fit a known pattern."""
    patterns = [name for name in known if "*" in name]
    return {
        name
        for name in names - known
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
