"""The account of running pipelines, as statistics events of an input of Splunk."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dnsqmon import __version__
from dnsqmon.account.account import account

if TYPE_CHECKING:
    from dnsqmon.config.settings import Settings
    from dnsqmon.pipeline import Pipeline
    from dnsqmon.splunk.sink import SplunkSink

#: What a source counts that only grows.
_SOURCE_COUNTS = {"duplicate", "filtered", "ring_freezes"}


class SplunkStatistics:
    """Writes an event every `statistics_interval` seconds, and one at the end.

    Its counts are those since the event before (default/props.conf lists the keys), so that they
    can be summed over any window and any restart.
    """

    def __init__(self, sink: SplunkSink, stanza: str, settings: Settings) -> None:
        self._sink = sink
        self._stanza = stanza
        self._settings = settings
        self._pipeline: Pipeline | None = None
        self._levels: dict[str, object] = {}
        self._finished = Counter(captured=0, pipelined=0, records=0)
        self._told: Counter[str] = Counter()
        self._started = self._told_at = time.monotonic()

    def follow(self, pipeline: Pipeline) -> None:
        """Count what goes through this pipeline, too, until `finish`."""
        self._pipeline = pipeline

    def write_if_due(self) -> None:
        """Write an event when it is time; raises SinkError when splunkd went away meanwhile."""
        self._sink.check()
        if time.monotonic() - self._told_at >= self._settings.statistics_interval:
            self.write()

    def finish(self) -> None:
        """Keep the counts of the pipeline, which ended."""
        self._finished = self._totals()
        if self._pipeline:
            self._levels = _levels(self._pipeline)
        self._pipeline = None

    def write(self) -> None:
        """Write an event now; may raise SinkError."""
        now, totals = time.monotonic(), self._totals()
        event: dict[str, object] = {
            "time": round(time.time(), 6),
            "version": __version__,
            "sensor": self._settings.name,
            "input": self._stanza,
            "profile": self._settings.profile,
            "uptime": round(now - self._started, 3),
            "interval": round(now - self._told_at, 3),
        }
        event.update((name, count - self._told[name]) for name, count in totals.items())
        if self._pipeline:
            self._levels = _levels(self._pipeline)
        event.update(self._levels)
        self._sink.write_statistics(self._settings.name, json.dumps(event))
        self._told, self._told_at = totals, now

    def _totals(self) -> Counter[str]:
        """Return every count since the start."""
        totals = Counter(self._finished)
        if self._pipeline:
            totals.update(_counts(self._pipeline))
        for name, count in self._sink.counts().items():
            totals[name.replace("lost_", "loss_")] = count
        return totals


def _counts(pipeline: Pipeline) -> dict[str, int]:
    """Return the counts of a pipeline without those of its sink, as keys of an event."""
    counts = account(pipeline)
    flat = {name: counts[name] for name in ("captured", "pipelined", "records")}
    flat.update((f"loss_{name}", count) for name, count in counts["lost"].items())
    flat.update((name, counts["source"][name]) for name in _SOURCE_COUNTS & set(counts["source"]))
    flat.update((f"refused_{name}", count) for name, count in counts["refused"].items())
    flat["first_seen_evicted"] = counts["inlet"].get("first_seen_evicted", 0)
    return flat


def _levels(pipeline: Pipeline) -> dict[str, object]:
    """Return what is no count: how much is held and remembered, and the lists in use."""
    levels: dict[str, object] = {
        "held": pipeline.counters.held,
        "first_seen_domains": pipeline.inlet.counts().get("first_seen_domains", 0),
    }
    lists = getattr(pipeline.inlet, "lists", None)
    for name in ("watch", "common", "server"):
        listed = getattr(lists, name, None)
        if listed is not None:
            levels[f"{name}list_name"] = Path(listed.path).name
            levels[f"{name}list_size"] = listed.count
            levels[f"{name}list_age"] = round(time.time() - listed.mtime_ns / 1e9)
            levels[f"{name}list_hash"] = listed.sha256
    return levels
