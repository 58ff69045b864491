"""Turn raw lines into what Splunk would find: events with the fields that the app's confs give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from browser.spl import Knowledge
from splunk_search_time import App, read_conf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from browser.expressions import Event
    from browser.spl import Window


class Index:
    """An index of events, and what searches over it may name, both by the confs below `root`."""

    def __init__(self, root: Path, name: str = "main") -> None:
        self._app = App(root)
        self._name = name
        self.events: list[Event] = []
        #: Rows of the KV-store collections, by the name of their lookup.
        self.collections: dict[str, list[dict[str, str]]] = {}
        macros = read_conf(root / "default" / "macros.conf")
        definitions = {name: stanza["definition"] for name, stanza in macros.items()}
        self.knowledge = Knowledge(definitions, self._lookup)

    def add(self, lines: Sequence[str], sourcetype: str) -> None:
        """Index lines of one sourcetype; `events` stays ordered, the newest first."""
        data = "".join(f"{line}\n" for line in lines).encode()
        for event in self._app.index(data, sourcetype):
            fields = self._app.search(event)
            self.events.append({**fields, "index": self._name})
        self.events.sort(key=lambda event: -float(event["_time"]))

    def within(self, window: Window) -> list[Event]:
        """Return the events of a time range."""
        return [e for e in self.events if window.earliest <= float(e["_time"]) < window.latest]

    def _lookup(self, name: str, wanted: Mapping[str, str | None]) -> Mapping[str, str]:
        if self._app.transforms[name].get("external_type") != "kvstore":
            return self._app.lookup(name, dict(wanted))
        for row in self.collections.get(name, []):
            if all(row[column] == value for column, value in wanted.items()):
                return row
        return {}
