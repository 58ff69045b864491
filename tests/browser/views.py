"""The app's dashboards as they are shipped, and their searches evaluated over an index."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from browser.spl import Results, Window, run
from needs import ROOT

if TYPE_CHECKING:
    from browser.events import Index

VIEWS = ROOT / "default" / "data" / "ui" / "views"
NAMES = ("dnsqmon_overview", "dnsqmon_hunt", "dnsqmon_client", "dnsqmon_domain", "dnsqmon_health")


def _definition(name: str) -> dict[str, Any]:
    found = ET.parse(VIEWS / f"{name}.xml").getroot().findtext("definition") or ""
    return dict(json.loads(found))


DEFINITIONS = {name: _definition(name) for name in NAMES}
PANELS = [(view, panel) for view in NAMES for panel in DEFINITIONS[view]["visualizations"]]
SOURCES = [(view, source) for view in NAMES for source in DEFINITIONS[view]["dataSources"]]


def defaults(view: str) -> dict[str, str]:
    """Return the value that each token has when a dashboard is opened."""
    options = [one["options"] for one in DEFINITIONS[view]["inputs"].values()]
    return {one["token"]: one["defaultValue"] for one in options}


def query(view: str, source: str, tokens: dict[str, str]) -> str:
    """Return a data source's SPL with the values of tokens in it; |s puts a value in quotes."""

    def value(found: re.Match[str]) -> str:
        text = tokens[found.group(1)]
        return json.dumps(text) if found.group(2) else text

    spl = DEFINITIONS[view]["dataSources"][source]["options"]["query"]
    return re.sub(r"\$(\w+)(\|s)?\$", value, spl)


def evaluated(
    view: str, source: str, index: Index, window: Window, tokens: dict[str, str]
) -> Results:
    """Run a data source over an index, through the search that it extends."""
    options = DEFINITIONS[view]["dataSources"][source]["options"]
    if "extend" in options:
        over = evaluated(view, options["extend"], index, window, tokens)
    else:
        over = Results([], index.within(window))
    return run(query(view, source, tokens), over, window, index.knowledge)
