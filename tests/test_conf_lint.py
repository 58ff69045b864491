"""Lints for what Splunk's own validators let pass: references, regular expressions, SPL words."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pcre2
import pytest

from needs import ROOT
from spl_words import (
    CONFS,
    DEFAULT,
    MACROS,
    Search,
    assigned,
    bare,
    expand,
    searches,
    unknown,
    used,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKUPS = CONFS["transforms"]
ALERTS = {name: s for name, s in CONFS["savedsearches"].items() if "counttype" in s}

#: The settings this app uses, by file; a misspelt one would be ignored by Splunk without a word.
KNOWN_SETTINGS = {
    "app": r"is_configured|build|state|is_visible|label|author|description|version|id|name"
    r"|check_for_updates",
    "collections": r"field\.\w+|accelerated_fields\.\w+",
    "eventtypes": r"search|description",
    "macros": r"definition|iseval",
    "props": r"description|category|pulldown_type|SHOULD_LINEMERGE|LINE_BREAKER|TRUNCATE|CHARSET"
    r"|NO_BINARY_CHECK|TIME_PREFIX|TIME_FORMAT|MAX_TIMESTAMP_LOOKAHEAD|MAX_DAYS_AGO|KV_MODE"
    r"|EVENT_BREAKER|EVENT_BREAKER_ENABLE|sourcetype|(TRANSFORMS|REPORT|EXTRACT|FIELDALIAS|LOOKUP"
    r"|EVAL)-\w+",
    "savedsearches": r"description|search|disabled|enableSched|cron_schedule|schedule_window"
    r"|realtime_schedule|dispatch\.(earliest|latest)_time|counttype|relation|quantity"
    r"|alert\.(track|severity|digest_mode|suppress|suppress\.fields|suppress\.period)"
    r"|action\.correlationsearch\.(label|annotations)|action\.risk|action\.risk\.param\._risk"
    r"|action\.risk\.param\._risk_message",
    "tags": r"\w+",
    "transforms": r"REGEX|FORMAT|DEST_KEY|filename|match_type|max_matches|case_sensitive_match"
    r"|external_type|collection|fields_list",
    "inputs": r"[\w.]+",  # compared with the spec in test_modinput
}

COMMANDS = {
    "addinfo", "addtotals", "bin", "dedup", "eval", "fields", "fillnull", "foreach", "head",
    "inputlookup", "lookup", "mvexpand", "outputlookup", "rename", "return", "search", "sort",
    "stats", "streamstats", "table", "timechart", "transpose", "tstats", "where",
}  # fmt: skip
FUNCTIONS = {
    "avg", "case", "coalesce", "count", "dc", "eval", "if", "in", "isnotnull", "isnull", "latest",
    "last", "like", "lower", "match", "max", "min", "mvappend", "mvcount", "mvdedup", "mvindex",
    "mvjoin", "mvsort", "now", "null", "per_second", "replace", "round",
    "search", "split", "stdev", "strftime", "strptime", "sum", "tonumber", "tostring", "values",
    "var",
}  # fmt: skip
#: Splunk's own fields, and those of addinfo.
SPLUNK_FIELDS = {
    "_time", "_raw", "_key", "host", "source", "sourcetype", "index", "eventtype", "tag",
    "info_min_time", "info_max_time",
}  # fmt: skip
#: The keys of a statistics event, as props.conf lists them.
STATS_FIELDS = {
    "time", "version", "sensor", "input", "profile", "uptime", "interval", "captured",
    "pipelined", "records", "written", "below_minimum", "held", "already_written",
    "first_seen_domains", "first_seen_evicted", "loss_*", "refused_*",
    "watchlist_name", "watchlist_size", "watchlist_age", "watchlist_hash", "commonlist_name",
    "commonlist_size", "commonlist_age", "commonlist_hash", "serverlist_name", "serverlist_size",
    "serverlist_age", "serverlist_hash",
}  # fmt: skip
SEARCHES = list(searches())


@pytest.mark.parametrize("conf", CONFS)
def test_settings_are_known(conf: str) -> None:
    """Every setting is one that its file knows."""
    keys = {key for stanza in CONFS[conf].values() for key in stanza}
    assert [key for key in keys if not re.fullmatch(KNOWN_SETTINGS[conf], key)] == []


def test_regular_expressions_compile() -> None:
    """Every regular expression compiles under PCRE2."""
    found = [
        value
        for conf in ("props", "transforms")
        for stanza in CONFS[conf].values()
        for key, value in stanza.items()
        if re.fullmatch(r"REGEX|LINE_BREAKER|EVENT_BREAKER|TIME_PREFIX|EXTRACT-.*", key)
    ]
    assert len(found) >= 12
    for regex in found:
        pcre2.compile(regex)


def test_breakers_have_a_group() -> None:
    """LINE_BREAKER and EVENT_BREAKER hold the group that Splunk requires."""
    for stanza in CONFS["props"].values():
        for key in ("LINE_BREAKER", "EVENT_BREAKER"):
            if key in stanza:
                assert pcre2.compile(stanza[key]).groups == 1


def test_props_name_transforms_that_exist() -> None:
    """REPORT, TRANSFORMS and LOOKUP name stanzas of transforms.conf of the right kind."""
    for stanza in CONFS["props"].values():
        for key, value in stanza.items():
            if key.startswith(("REPORT-", "TRANSFORMS-")):
                for name in value.split(","):
                    assert "REGEX" in LOOKUPS[name.strip()], name
            if key.startswith("LOOKUP-"):
                assert {"filename", "collection"} & LOOKUPS[value.split()[0]].keys()


def _columns(lookup: str) -> list[str]:
    """Name the columns of a lookup: of its file, whose rows must be even, or its collection."""
    stanza = LOOKUPS[lookup]
    if "filename" in stanza:
        with (ROOT / "lookups" / stanza["filename"]).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert {len(row) for row in rows} == {len(rows[0])}, stanza["filename"]
        return rows[0]
    return [name.strip() for name in stanza["fields_list"].split(",")]


@pytest.mark.parametrize("lookup", [name for name, s in LOOKUPS.items() if "REGEX" not in s])
def test_lookup_has_its_table(lookup: str) -> None:
    """Each lookup has a file with even rows or a collection with those fields."""
    columns = _columns(lookup)
    stanza = LOOKUPS[lookup]
    for column in re.findall(r"\((\w+)\)", stanza.get("match_type", "")):
        assert column in columns
    if "collection" in stanza:
        fields = {key.partition(".")[2] for key in CONFS["collections"][stanza["collection"]]}
        assert set(columns) - {"_key"} == fields


def test_every_table_has_a_lookup() -> None:
    """No CSV file ships that no lookup reads."""
    files = {path.name for path in (ROOT / "lookups").glob("*.csv")}
    assert files == {s["filename"] for s in LOOKUPS.values() if "filename" in s}


def _lookup_uses() -> Iterator[tuple[str, list[str]]]:
    """Return each use of a lookup, in props.conf and in SPL: its name and the columns it names."""
    for stanza in CONFS["props"].values():
        for key, value in stanza.items():
            if key.startswith("LOOKUP-"):
                yield value.split()[0], _named_columns(value.split()[1:])
    for search in SEARCHES:
        for found in re.findall(
            r"\| (?:lookup|inputlookup|outputlookup) ([^|\]]+)", expand(search.spl)
        ):
            words = [word for word in found.split() if "=" not in word]
            yield words[0], _named_columns(words[1:])


def _named_columns(words: list[str]) -> list[str]:
    joined = re.sub(r" (AS|as) \S+", "", " ".join(words))
    return [word for word in joined.split() if word not in ("OUTPUT", "OUTPUTNEW")]


def test_lookups_and_their_columns_exist() -> None:
    """Every lookup that is used exists, with the columns that are used."""
    uses = list(_lookup_uses())
    assert len(uses) >= 10
    for name, columns in uses:
        assert set(columns) <= set(_columns(name)), name


def test_tags_name_event_types_that_exist() -> None:
    """Tags stand on event types of this app."""
    for stanza in CONFS["tags"]:
        assert stanza.partition("eventtype=")[2] in CONFS["eventtypes"]


def test_navigation_names_views_that_exist() -> None:
    """The navigation shows every view, and none that is missing."""
    nav = ET.parse(DEFAULT / "data/ui/nav/default.xml")
    named = {view.get("name") for view in nav.iter("view")} - {"search"}
    assert named == {path.stem for path in (DEFAULT / "data/ui/views").glob("*.xml")}


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.where)
def test_macros_exist(search: Search) -> None:
    """Every macro that a search names is defined, and the number of backquotes is even."""
    assert search.spl.count("`") % 2 == 0
    expand(search.spl)


def test_macros_are_used() -> None:
    """No macro ships that nothing uses, but those that are there for the reader's own searches."""
    texts = [search.spl for search in SEARCHES] + [m["definition"] for m in MACROS.values()]
    unused = {name for name in MACROS if f"`{name}`" not in "".join(texts)}
    assert unused <= {"dnsqmon_watchlist", "dnsqmon_commonlist", "dnsqmon_log"}


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.where)
def test_commands_and_functions_are_known(search: Search) -> None:
    """Every command is one of Splunk's, every function too, and the brackets are balanced."""
    spl = bare(search.spl)
    assert spl.count("(") == spl.count(")")
    assert spl.count("[") == spl.count("]")
    assert set(re.findall(r"\|\s*(\w+)", spl)) <= COMMANDS
    assert set(re.findall(r"(\w+)\(", re.sub(r"\b(IN|AND|OR|NOT) ?\(", "(", spl))) <= FUNCTIONS


def _search_time_fields() -> set[str]:
    """Name every field that props.conf gives a record."""
    stanza = CONFS["props"]["dnsqmon"]
    found = set()
    for transform in LOOKUPS.values():
        found |= set(re.findall(r"\?<(\w+)>", transform.get("REGEX", "")))
    for key, value in stanza.items():
        if key.startswith("EVAL-"):
            found.add(key[5:])
        if key.startswith(("FIELDALIAS-", "LOOKUP-")):
            words = value.partition("OUTPUTNEW ")[2] or value
            found |= set(re.findall(r"\bAS (\S+)", words))
            found |= (
                set(re.sub(r"\S+ AS \S+", "", words).split()) if "OUTPUTNEW" in value else set()
            )
    return found


FIELDS = _search_time_fields() | STATS_FIELDS | SPLUNK_FIELDS


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.where)
def test_fields_exist(search: Search) -> None:
    """Every field that a search names is a field of our events or made by the search itself."""
    known = FIELDS | assigned(search.base) | assigned(search.spl)
    if "| inputlookup" in search.spl:
        known |= set(_columns("dnsqmon_first_seen"))
    assert unknown(used(search.spl), known) == set()


def test_field_lint_sees_a_misspelt_field() -> None:
    """The lint above is no formality: it names what is misspelt, in each kind of stage."""
    spl = "qeury=a | stats sum(scroe) AS x BY scr | eval y=x+foo | where bar>1 | table x y baz"
    known = FIELDS | assigned(spl)
    assert unknown(used(spl), known) == {"qeury", "scroe", "scr", "foo", "bar", "baz"}


@pytest.mark.parametrize("name", ALERTS)
def test_alert_is_complete(name: str) -> None:
    """An alert is disabled, scheduled and throttled; it says what a person needs to enable it."""
    alert = ALERTS[name]
    assert (alert["disabled"], alert["enableSched"], alert["alert.suppress"]) == ("1", "1", "1")
    for heading in ("HOW TO IMPLEMENT: ", "KNOWN FALSE POSITIVES: ", "MITRE ATT&CK: T1"):
        assert heading in alert["description"]
    techniques = json.loads(alert["action.correlationsearch.annotations"])["mitre_attack"]
    assert alert["description"].endswith("MITRE ATT&CK: " + " ".join(techniques))
    made = assigned(alert["search"])
    risk = {"risk_object", "risk_object_type", "risk_score", "risk_message"}
    assert risk <= made
    for field in alert["alert.suppress.fields"].split(","):
        assert re.search(rf"\b{field}\b", alert["search"])
    assert alert["search"].endswith("_filter`")


@pytest.mark.parametrize("name", ALERTS)
def test_risk_is_the_same_in_the_action(name: str) -> None:
    """The risk action names the object and the score of the search; of scores, the least."""
    alert = ALERTS[name]
    found = re.search(
        r'risk_object=(\w+), risk_object_type="(\w+)", risk_score=(\w+),', alert["search"]
    )
    assert found
    least = MACROS["dnsqmon_score_threshold"]["definition"] if "High" in name else "35"
    score = found[3].replace("score", least)
    assert json.loads(alert["action.risk.param._risk"]) == [
        {
            "risk_object_field": found[1],
            "risk_object_type": found[2],
            "risk_score": int(score),
        }
    ]


@pytest.mark.parametrize("name", [name for name in ALERTS if "Sensor" in name or "List" in name])
def test_one_input_does_not_silence_another(name: str) -> None:
    """What is wrong with a sensor is told, and throttled, for each of its inputs."""
    assert re.search(r"\| stats [^|]* BY sensor input\b", ALERTS[name]["search"])
    assert {"sensor", "input"} <= {*ALERTS[name]["alert.suppress.fields"].split(",")}


def test_first_seen_misses_no_hour() -> None:
    """The search that counts by index time is scheduled continuously, each hour once."""
    keep = CONFS["savedsearches"]["dnsQmon - Keep fleet-wide first seen"]
    assert (keep["cron_schedule"], keep["realtime_schedule"]) == ("5 * * * *", "0")
    assert "_index_earliest=-1h@h _index_latest=@h" in keep["search"]


def test_the_eleven_alerts_are_there() -> None:
    """The alerts that the app promises ship."""
    assert len(ALERTS) == 11


def test_versions_agree() -> None:
    """The Python package, app.conf and app.manifest name one version."""
    manifest = json.loads((ROOT / "package/app/app.manifest").read_text("utf-8"))
    text = (ROOT / "bin/dnsqmon/__init__.py").read_text("utf-8")
    version = manifest["info"]["id"]["version"]
    assert f'__version__ = "{version}"' in text
    assert CONFS["app"]["launcher"]["version"] == version
    assert CONFS["app"]["id"]["version"] == version
