"""The account of a run: every packet and every record under what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dnsqmon.counters import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.pipeline import Pipeline

#: What the counts of a source mean.
SOURCE_COUNTS = {
    "duplicate": "copies of a packet that another interface showed, left out",
    "filtered": "packets that the filter kept out",
    "ring_freezes": "times that a ring was full",
    "waiting_in_ring": "packets that wait in a ring",
}


def account(pipeline: Pipeline) -> dict[str, Any]:
    """Give the counts of a pipeline, ready for JSON.

    `captured = packets + sum(lost)`, `packets + pipelined = records + sum(refused) + held`, and
    for each sink `records = written + waiting + lost_*` (+ `below_minimum` in Splunk, - `resumed`,
    which an earlier run had left waiting). `source` are counts that are no loss.
    """
    counters = pipeline.counters
    lost = dict(pipeline.source.losses())
    return {
        "captured": counters.packets + sum(lost.values()),
        "lost": lost,
        "packets": counters.packets,
        "pipelined": counters.pipelined,
        "records": counters.records,
        "refused": {name: counters.reasons[name] for name in REASONS if counters.reasons[name]},
        "held": counters.held,
        "adds_up": counters.adds_up(),
        "source": dict(pipeline.source.counts()),
        "sinks": {sink.name: dict(sink.counts()) for sink in pipeline.sinks},
        "inlet": dict(pipeline.inlet.counts()),
    }


def as_text(counts: dict[str, Any]) -> Iterator[str]:
    """Lay the account out as aligned lines for people."""
    yield f"{counts['captured']:>12,}  packets captured"
    for name, count in counts["lost"].items():
        yield f"{count:>12,}    lost: {name.replace('_', ' ')}"
    yield f"{counts['packets']:>12,}  packets inspected"
    if counts["pipelined"]:
        yield f"{counts['pipelined']:>12,}  + further messages in a TCP segment"
    yield f"{counts['records']:>12,}  = records"
    for name, count in counts["refused"].items():
        yield f"{count:>12,}    + {name}: {REASONS[name]}"
    if counts["held"]:
        yield f"{counts['held']:>12,}    + held: waiting for the rest of their message"
    for name, count in counts["source"].items():
        yield f"{count:>12,}  {SOURCE_COUNTS[name]}"
    for sink, numbers in counts["sinks"].items():
        for name, count in numbers.items():
            if count or name == "written":
                yield f"{count:>12,}  {sink}: {name.replace('_', ' ')}"
    for name, count in counts["inlet"].items():
        yield f"{count:>12,}  {name.replace('_', ' ')}"
