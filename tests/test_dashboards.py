"""The dashboards: sound by themselves, and every search of theirs evaluated over real events."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from browser import demo
from browser.events import Index
from browser.expressions import Event, SplError, parse_eval, parse_search
from browser.spl import COMMANDS, TRANSFORMING, Results, run, split
from browser.views import DEFINITIONS, NAMES, PANELS, SOURCES, defaults, evaluated, query
from dnsqmon.config.settings import table
from dnsqmon.sinks.syslog import SEVERITY_FROM
from needs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="index", scope="session")
def _index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Index what the sensor makes of the demo capture."""
    return demo.index_of(tmp_path_factory.mktemp("demo"))


# ---------------------------------------------------------------- the files by themselves


@pytest.mark.parametrize("view", NAMES)
def test_references_hold(view: str) -> None:
    """Panels name data sources that exist, each is used, each panel and input is placed once."""
    parts = DEFINITIONS[view]
    sources, panels, inputs = parts["dataSources"], parts["visualizations"], parts["inputs"]
    used = {one["dataSources"]["primary"] for one in panels.values()}
    bases = {one["options"]["extend"] for one in sources.values() if one["type"] == "ds.chain"}
    assert used | bases == set(sources)
    placed = [one["item"] for one in parts["layout"]["structure"]]
    assert sorted(placed) == sorted(panels)
    assert sorted(parts["layout"]["globalInputs"]) == sorted(inputs)


@pytest.mark.parametrize("view", NAMES)
def test_base_searches_are_shared(view: str) -> None:
    """A base is rows, not events, as Splunk asks, and serves two panels or more."""
    sources = DEFINITIONS[view]["dataSources"]
    extended = [one["options"]["extend"] for one in sources.values() if one["type"] == "ds.chain"]
    assert extended
    for base in set(extended):
        assert sources[base]["type"] == "ds.search"
        commands = [part.split()[0] for part in split(query(view, base, defaults(view)), "|")[1:]]
        assert TRANSFORMING & set(commands)
        assert extended.count(base) >= 2


@pytest.mark.parametrize("view", NAMES)
def test_time_range_is_an_input(view: str) -> None:
    """Every search runs over the time range of the page's input, the last 24 hours at first."""
    assert defaults(view)["global_time"] == "-24h@h,now"
    for source in DEFINITIONS[view]["dataSources"].values():
        if source["type"] == "ds.search":
            assert source["options"]["queryParameters"] == {
                "earliest": "$global_time.earliest$",
                "latest": "$global_time.latest$",
            }


@pytest.mark.parametrize(("view", "panel"), PANELS)
def test_panel_says_what_it_shows(view: str, panel: str) -> None:
    """A panel has a title; its unit stands at the value, at the axes, or in the description."""
    one = DEFINITIONS[view]["visualizations"][panel]
    assert one["title"]
    options = one.get("options", {})
    if one["type"] == "splunk.singlevalue":
        assert options.get("unit") or options.get("underLabel") or one["title"] == "First query"
    else:
        assert one["description"]
    if one["type"] in ("splunk.area", "splunk.bar", "splunk.column", "splunk.line"):
        assert options["yAxisTitleText"]
        assert options.get("xAxisTitleText") or options["xAxisTitleVisibility"] == "hide"


@pytest.mark.parametrize("view", NAMES)
def test_text_inputs_cannot_break_out(view: str) -> None:
    """What a person types goes into SPL in quotes, escaped (|s); only fixed choices go in bare."""
    parts = DEFINITIONS[view]
    free = {
        one["options"]["token"] for one in parts["inputs"].values() if one["type"] == "input.text"
    }
    for source in parts["dataSources"].values():
        for token, escape in re.findall(r"\$(\w+)(\|s)?\$", source["options"]["query"]):
            assert escape or token not in free


def _drill_downs() -> Iterator[tuple[str, str, str]]:
    for view, panel in PANELS:
        for handler in DEFINITIONS[view]["visualizations"][panel].get("eventHandlers", []):
            yield view, panel, handler["options"]["url"]


def test_drill_downs_lead_somewhere() -> None:
    """A drill-down opens a view of the app, sets inputs that it has, and takes the time along."""
    reached: dict[str, set[str]] = {}
    for view, _panel, url in _drill_downs():
        path, tokens = urlsplit(url).path, parse_qs(urlsplit(url).query)
        app, target = re.fullmatch(r"/app/([\w-]+)/(\w+)", path).groups()  # type: ignore[union-attr]
        assert app == "TA-dnsqmon"
        assert tokens.pop("form.global_time.earliest") == ["$global_time.earliest|u$"]
        assert tokens.pop("form.global_time.latest") == ["$global_time.latest|u$"]
        assert {name.partition("form.")[2] for name in tokens} <= set(defaults(target))
        reached.setdefault(view, set()).add(target)
    assert set.union(*reached.values()) == set(NAMES)
    assert len(reached) == len(NAMES)


def test_drill_downs_take_columns_that_are_shown(index: Index) -> None:
    """The field of the row that a drill-down passes on is a column of the panel's table."""
    for view, panel, url in _drill_downs():
        source = DEFINITIONS[view]["visualizations"][panel]["dataSources"]["primary"]
        shown = evaluated(view, source, index, demo.DAY, defaults(view)).fields
        for column in re.findall(r"\$row\.(\w+)\.value\|u\$", url):
            assert column in shown, (view, panel)


def _colours(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for inner in node.values():
            yield from _colours(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _colours(inner)
    elif isinstance(node, str) and re.fullmatch(r"#[0-9a-f]{6}", node):
        yield node


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("view", NAMES)
def test_colours_suit_both_themes(view: str) -> None:
    """Every colour that a view sets stands out 3 to 1 (WCAG, large text) on black and on white."""
    for colour in _colours(DEFINITIONS[view]):
        light = _luminance(colour) + 0.05
        assert min(1.05 / light, light / 0.05) >= 3, colour


def test_one_scale_of_severity() -> None:
    """The views' colours and choices, and syslog's severities, change at scores of the lookup."""
    with (ROOT / "lookups/dnsqmon_severity.csv").open(encoding="utf-8", newline="") as file:
        scale: dict[str, int] = {}
        for row in csv.DictReader(file):
            scale.setdefault(row["severity"], int(row["score_band"]))
    panels = [DEFINITIONS[view]["visualizations"][panel] for view, panel in PANELS]
    by_field = [panel["options"].get("seriesColorsByField", {}) for panel in panels]
    by_name = [colours for colours in by_field if "critical" in colours]
    contexts = [panel.get("context", {}) for panel in panels]
    by_score = [context["scores"] for context in contexts if "scores" in context]
    assert (len(by_name), len(by_score)) == (2, 3)
    for colours in by_name:
        assert [*colours] == [*scale]
        for ranges in by_score:
            assert {one["value"]: one.get("from", 0) for one in ranges} == {
                colours[name]: score for name, score in scale.items()
            }
            assert [one.get("to") for one in ranges] == [*list(scale.values())[1:], None]
    choices = DEFINITIONS["dnsqmon_hunt"]["inputs"]["input_score"]["options"]["items"]
    assert [int(one["value"]) for one in choices] == [*scale.values()]
    names = {"critical": "err", "high": "warning", "low": "notice"}
    assert {name: score for score, name in SEVERITY_FROM} == {
        names[name]: scale[name] for name in names
    }
    for score, name in SEVERITY_FROM:
        assert f"{name} from {score}" in table()["syslog_severity"].help.replace("a score of ", "")


# ---------------------------------------------------------------- the searches, over real events


@pytest.mark.parametrize(("view", "source"), SOURCES)
def test_search_finds_something(view: str, source: str, index: Index) -> None:
    """Each data source gives rows for the demo capture's day, with the inputs' first values."""
    results = evaluated(view, source, index, demo.DAY, {**defaults(view), "score": "0"})
    assert results.rows
    assert set(results.rows[0]) <= set(results.fields)


@pytest.mark.parametrize(("view", "panel"), PANELS)
def test_panel_without_events_is_zero_or_empty(view: str, panel: str) -> None:
    """Without events a single value says 0 (or none), and every other panel has no rows."""
    one = DEFINITIONS[view]["visualizations"][panel]
    source = one["dataSources"]["primary"]
    results = evaluated(view, source, Index(ROOT), demo.DAY, defaults(view))
    if one["type"] == "splunk.singlevalue":
        assert [list(row.values()) for row in results.rows] in ([[0]], [["0"]], [["none"]])
    else:
        assert results.rows == []


def _rows(view: str, source: str, index: Index, **tokens: str) -> list[Event]:
    return evaluated(view, source, index, demo.DAY, {**defaults(view), **tokens}).rows


def _value(view: str, source: str, index: Index, **tokens: str) -> object:
    ((value,),) = [list(row.values()) for row in _rows(view, source, index, **tokens)]
    return value


def test_overview_counts_the_records(
    index: Index, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The six figures at the top of the overview are those of the events that were sent."""
    lines = demo.records(tmp_path_factory.mktemp("lines"))
    rows = [line.split(",") for line in lines]
    counts = {
        "ds_queries": len(rows),
        "ds_clients": len({row[3] for row in rows}),
        "ds_domains": len({row[10] for row in rows}),
        "ds_watch_hits": sum("b" in row[13] for row in rows),
        "ds_high_scores": sum(int(row[12]) >= 25 for row in rows),
        "ds_sensors": 1,
    }
    for source, count in counts.items():
        assert _value("dnsqmon_overview", source, index) == count, source
    assert counts["ds_watch_hits"] > 10


def test_client_profile_finds_the_beacon(index: Index) -> None:
    """The name that the demo's infected client asks for every ten minutes is the most regular."""
    (top, *_) = _rows("dnsqmon_client", "ds_regular", index)
    assert top["Name"] == "c2.badhost.test"
    assert 590 <= top["Every (s)"] <= 610


def test_domain_page_finds_the_tunnel(index: Index) -> None:
    """The demo's tunnel shows as many long names of one client below one domain."""
    tunnel = {"domain": "example.net"}
    assert int(str(_value("dnsqmon_domain", "ds_longest", index, **tunnel))) > 60
    assert _rows("dnsqmon_domain", "ds_askers", index, **tunnel)[0]["Names"] >= 50


def test_health_adds_up(index: Index) -> None:
    """What became of the packets sums to what was captured, on the page as in the sensor."""
    outcomes = _rows("dnsqmon_health", "ds_balance", index)
    captured = _value("dnsqmon_health", "ds_captured", index)
    held = sum(int(event["held"]) for event in index.events if "held" in event)
    pipelined = sum(int(event["pipelined"]) for event in index.events if "held" in event)
    assert sum(row["Packets"] for row in outcomes) + held == int(str(captured)) + pipelined > 1800


def test_a_stale_list_is_named(index: Index) -> None:
    """A list that was not changed for 45 days is called stale, one of today fresh."""
    rows = _rows("dnsqmon_health", "ds_lists", index)
    states = {(row["Sensor"], row["List"]): row["State"] for row in rows}
    assert states[demo.LOSING, "common"] == "stale"
    assert states[demo.LOSING, "watch"] == "fresh"
    assert len(states) == 6


@pytest.mark.parametrize("flag", ["b", "u", "f", "l", "s", "t"])
def test_hunt_filters_by_flag(flag: str, index: Index) -> None:
    """Each choice of the flag filter leaves the queries that carry the flag, and no other."""
    tokens = {"score": "0", "flag": f"*{flag}*"}
    found = _value("dnsqmon_hunt", "ds_queries", index, **tokens)
    flags = [event["flags"] for event in index.events if "flags" in event]
    assert found == sum(flag in text for text in flags if text != "None") > 0
    (choice,) = [
        item["label"]
        for item in DEFINITIONS["dnsqmon_hunt"]["inputs"]["input_flag"]["options"]["items"]
        if item["value"] == f"*{flag}*"
    ]
    assert f"({flag})" in choice


# ---------------------------------------------------------------- the evaluator is strict

ROWS = Results(["a", "b"], [{"a": "1", "b": "x"}, {"a": "3", "b": "y"}, {"b": "y"}])


@pytest.mark.parametrize(
    "spl",
    [
        "| nosuchcommand",
        "| stats median(a)",
        "| eval c=nosuch(a)",
        "| eval c=a+",
        "| where (a>1",
        "| search free",
        "| streamstats count",
        "| bin span=1q _time",
        "| search a=`nosuchmacro`",
        "| append [search a=1]",
        '| eval c="unclosed',
    ],
)
def test_spl_outside_the_subset_is_refused(spl: str, index: Index) -> None:
    """What the evaluator does not know it refuses, so no panel passes unevaluated."""
    with pytest.raises(SplError):
        run(spl, ROWS, demo.DAY, index.knowledge)


@pytest.mark.parametrize(
    ("spl", "expected"),
    [
        ("| search a=1", [{"a": "1", "b": "x"}]),
        ("| search NOT a=*", [{"b": "y"}]),
        ("| search b IN (x, z)", [{"a": "1", "b": "x"}]),
        ("| where a>1", [{"a": "3", "b": "y"}]),
        (
            "| stats count AS n sum(a) AS s BY b",
            [{"b": "x", "n": 1, "s": 1}, {"b": "y", "n": 2, "s": 3}],
        ),
        ('| stats dc(b) AS n max(a) AS m count(eval(b="y")) AS y', [{"n": 2, "m": 3, "y": 2}]),
        ("| sort 1 - a | table a", [{"a": "3"}]),
        ("| eval c=if(isnull(a), 0, a * 2) | table c", [{"c": 2}, {"c": 6}, {"c": 0}]),
        ('| stats sum(a) AS s | eval p=round(100 * s / 3, 1) . "%" | table p', [{"p": "133.3%"}]),
        ("| fillnull value=9 a | stats sum(a) AS s", [{"s": 13}]),
        (
            "| stats sum(a) AS s count AS n | transpose column_name=k",
            [{"k": "s", "row 1": 4}, {"k": "n", "row 1": 3}],
        ),
        ("| search a=7 | stats count AS n", [{"n": 0}]),
        ("| search a=7 | stats sum(a) AS s", []),
    ],
)
def test_spl_means_what_splunk_says(spl: str, expected: list[Event], index: Index) -> None:
    """The evaluator gives what Splunk's Search Reference says, on three rows."""
    assert run(spl, ROWS, demo.DAY, index.knowledge).rows == expected


def test_every_command_of_the_subset_is_used() -> None:
    """The evaluator knows no more commands than the dashboards need."""
    used = set()
    for view, source in SOURCES:
        parts = split(query(view, source, defaults(view)), "|")[1:]
        used |= {part.split()[0] for part in parts}
    assert set(COMMANDS) == used


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 2 - 3", 5),
        ("NOT 1=2 AND 2>1", True),
        ('"a" . 1', "a1"),
    ],
)
def test_eval_precedence(text: str, expected: object) -> None:
    """Operators of eval bind as documented, and from the left."""
    assert parse_eval(text, demo.NOW)({}) == expected


def test_search_terms_ignore_case_and_take_wildcards() -> None:
    """A term of search compares text without regard to case; * stands for any characters."""
    assert parse_search('q="*.EXAMPLE.net"')({"q": "a.example.net"})
    assert not parse_search('q="*.example.net"')({"q": "example.net"})
    assert not parse_search('q="[ab]"')({"q": "a"})
