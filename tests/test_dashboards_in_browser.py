"""The shipped dashboards in Chromium, by Splunk's own packages, over what the sensor found.

The pictures of the run are left in .cache/browser/pictures.
"""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from browser import demo
from browser.bundle import build
from browser.events import Index
from browser.splunkd import Splunkd
from browser.views import DEFINITIONS, NAMES, PANELS, VIEWS
from needs import ROOT, need

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

CACHE = ROOT / ".cache" / "browser"
PICTURES = CACHE / "pictures"
#: The hours of the demo capture: nine to five, seen from shortly after.
WORKDAY = "form.global_time.earliest=-10h%40h&form.global_time.latest=now"
#: Somebody who types this into the client's field wants to leave the quotes of the search.
BREAK_OUT = '" OR src="*'


class Step(NamedTuple):
    """A walk's step: what it is for, and what the driver is told (see browser/drive.mjs)."""

    name: str
    order: dict[str, Any]


def _open(server: Splunkd, view: str, query: str = "", picture: str = "") -> dict[str, Any]:
    address = f"{server.url}/en-US/app/TA-dnsqmon/{view}?{query}"
    return {"open": address, "screenshot": str(PICTURES / picture) if picture else None}


def _click(panel: str, text: str = "") -> dict[str, Any]:
    return {"click": {"panel": panel, "text": text}}


def _walk(full: Splunkd, empty: Splunkd) -> Iterator[Step]:
    for view in NAMES:
        narrowed = "form.domain=example.net" if view == "dnsqmon_domain" else ""
        dark = f"{WORKDAY}&{narrowed}"
        yield Step(f"{view} dark", _open(full, view, dark, f"{view}.png"))
        yield Step(
            f"{view} light", _open(full, view, f"theme=light&{WORKDAY}", f"{view}_light.png")
        )
        yield Step(f"{view} empty", _open(empty, view))
    week = "form.global_time.earliest=-7d%40h&form.global_time.latest=now"
    yield Step("start", _open(full, "dnsqmon_overview", week))
    yield Step("client", _click("viz_top_clients", "10.18.23.57"))
    yield Step("domain", _click("viz_top_domains", "example.net"))
    yield Step("asker", _click("viz_askers", "10.18.23.57"))
    yield Step("start again", _open(full, "dnsqmon_overview"))
    yield Step("hunt", _click("viz_watch_hits"))
    yield Step("hunted domain", _click("viz_newest", "c2.badhost.test"))
    yield Step("health", _open(full, "dnsqmon_health"))
    yield Step("sensor", _click("viz_inputs", demo.SENSOR))
    yield Step("break out", _open(full, "dnsqmon_client", "form.client=%22%20OR%20src%3D%22*"))


@pytest.fixture(name="indexes", scope="module")
def _indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Index]:
    """Index the demo capture, and nothing."""
    full = demo.index_of(tmp_path_factory.mktemp("demo"))
    return {"full": full, "empty": Index(ROOT)}


@pytest.fixture(name="servers", scope="module")
def _servers(indexes: dict[str, Index]) -> Iterator[dict[str, Splunkd]]:
    """Start a stand-in of Splunk over each index."""
    need("chromium", "node", "npm")
    page = build(ROOT / "tests" / "browser", CACHE) / "page"
    servers = {name: Splunkd(one, demo.NOW, VIEWS, page) for name, one in indexes.items()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(name="reports", scope="module")
def _reports(
    servers: dict[str, Splunkd], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Walk through the dashboards once; give what each step saw, by the step's name."""
    steps = list(_walk(servers["full"], servers["empty"]))
    PICTURES.mkdir(exist_ok=True)
    plan = {
        "chromium": "/usr/bin/chromium",
        "profile": str(tmp_path_factory.mktemp("profile")),
        "steps": [step.order for step in steps],
    }
    built = build(ROOT / "tests" / "browser", CACHE)
    done = subprocess.run(
        ["node", ROOT / "tests" / "browser" / "drive.mjs", built],
        input=json.dumps(plan), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip([step.name for step in steps], json.loads(done.stdout)))


def _panel(report: dict[str, Any], panel: str) -> dict[str, Any]:
    (found,) = [one for one in report["panels"] if one["id"] == panel]
    return dict(found)


def test_nothing_went_wrong(
    reports: dict[str, dict[str, Any]], servers: dict[str, Splunkd]
) -> None:
    """No script error, no failed request, no bad search, no complaint of Splunk's schema."""
    for name, report in reports.items():
        assert (name, report["errors"], report["complaints"]) == (name, [], [])
    assert [server.errors for server in servers.values()] == [[], []]


@pytest.mark.parametrize(("view", "panel"), PANELS)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_panel_shows_data(
    view: str, panel: str, theme: str, reports: dict[str, dict[str, Any]]
) -> None:
    """Every panel shows its title and a value, rows or marks."""
    seen = _panel(reports[f"{view} {theme}"], panel)
    assert seen["title"] == DEFINITIONS[view]["visualizations"][panel]["title"]
    kind = DEFINITIONS[view]["visualizations"][panel]["type"]
    shown = {"splunk.singlevalue": "value", "splunk.table": "rows"}.get(kind, "marks")
    assert seen[shown], seen["text"]
    assert not seen["empty"]


@pytest.mark.parametrize(("view", "panel"), PANELS)
def test_panel_says_that_there_is_nothing(
    view: str, panel: str, reports: dict[str, dict[str, Any]]
) -> None:
    """Without events a single value is 0, every other panel says that nothing was found."""
    seen = _panel(reports[f"{view} empty"], panel)
    if DEFINITIONS[view]["visualizations"][panel]["type"] == "splunk.singlevalue":
        assert seen["value"] in ("0", "0.000", "none")
    else:
        assert seen["empty"], seen["text"]


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("view", NAMES)
def test_text_is_legible(view: str, theme: str, reports: dict[str, dict[str, Any]]) -> None:
    """Titles, values and cells stand out from what is behind them: 3 to 1 or more (WCAG)."""
    assert reports[f"{view} {theme}"]["contrast"] >= 3


def test_overview_shows_what_the_sensor_counted(
    reports: dict[str, dict[str, Any]], indexes: dict[str, Index]
) -> None:
    """The figure on the page is the number of records that the sensor wrote."""
    records = [event for event in indexes["full"].events if event["sourcetype"] == "dnsqmon"]
    assert _panel(reports["start"], "viz_queries")["value"] == str(len(records))


def _queries(index: Index, field: str, value: str) -> str:
    return str(sum(event.get(field) == value for event in index.events))


def test_click_leads_from_overview_to_client_to_domain_to_client(
    reports: dict[str, dict[str, Any]], indexes: dict[str, Index]
) -> None:
    """Each click opens the next dashboard for what was clicked on, over the same time range."""
    index = indexes["full"]
    for step, view, field, value in (
        ("client", "dnsqmon_client", "src", "10.18.23.57"),
        ("domain", "dnsqmon_domain", "sld", "example.net"),
        ("asker", "dnsqmon_client", "src", "10.18.23.57"),
    ):
        report = reports[step]
        assert f"/app/TA-dnsqmon/{view}?" in report["address"]
        assert value in report["inputs"].values()
        assert report["inputs"]["Time range"] == "Last 7 days"
        assert _panel(report, "viz_queries")["value"] == _queries(index, field, value)


def test_click_leads_from_a_watch_hit_to_its_domain(
    reports: dict[str, dict[str, Any]], indexes: dict[str, Index]
) -> None:
    """The overview's watch-list hits open the hunt for them; a name there opens its domain."""
    hunt = reports["hunt"]
    assert hunt["inputs"]["Flag"] == "Watch list (b)"
    assert hunt["inputs"]["Score at least"] == "0"
    hits = _queries(indexes["full"], "flag_watch", "true")
    assert _panel(hunt, "viz_queries")["value"] == hits
    assert reports["hunted domain"]["inputs"]["Domain"] == "c2.badhost.test"


def test_click_leads_from_health_to_the_sensor(reports: dict[str, dict[str, Any]]) -> None:
    """A sensor on the health page opens the overview of that sensor alone."""
    assert reports["sensor"]["inputs"]["Sensor"] == demo.SENSOR


def test_quotes_do_not_leave_the_search(reports: dict[str, dict[str, Any]]) -> None:
    """A value with quotes and SPL in it is looked for as it stands, and found nowhere."""
    assert reports["break out"]["inputs"]["Client"] == BREAK_OUT
    assert _panel(reports["break out"], "viz_queries")["value"] == "0"


def test_searches_are_shared(servers: dict[str, Splunkd], reports: dict[str, Any]) -> None:
    """A page starts a search for each base, not for each panel: the others run on its rows."""
    assert reports
    sources = [one for view in NAMES for one in DEFINITIONS[view]["dataSources"].values()]
    bases = [one for one in sources if one["type"] == "ds.search"]
    assert len(servers["empty"].jobs) == len(bases) < len(PANELS) / 3
