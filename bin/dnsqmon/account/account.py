"""The account of a run: every packet and every record under what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dnsqmon.core.counters import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dnsqmon.core.interfaces import Source
    from dnsqmon.pipeline import Pipeline

#: What the counts of a source mean.
SOURCE_COUNTS = {
    "duplicate": "copies of a packet that another interface showed, left out",
    "filtered": "packets that the filter kept out",
    "ring_freezes": "times that a ring was full",
    "waiting_in_ring": "packets that wait in a ring",
}


def account(pipeline: Pipeline) -> dict[str, Any]:
    """Return the counts of a pipeline, ready for JSON.

    `captured = packets + sum(lost)`, `packets + pipelined = records + sum(refused) + held`, and
    for each sink `records = written + waiting + lost_*` (+ `below_minimum` in Splunk, - `resumed`,
    which an earlier run had left waiting). Of it follows `captured + pipelined = records + sum of
    refused + held + sum of lost`. `source` are counts that are no loss. A source that hears senders
    has `senders` too: what of `lost` is whose.
    """
    counters = pipeline.counters
    lost = dict(pipeline.source.losses())
    return {
        "captured": counters.packets + sum(lost.values()),
        "lost": lost,
        **_senders(pipeline.source),
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
    for sender, losses in counts.get("senders", {}).items():
        for name, count in losses.items():
            yield f"{count:>12,}      of {sender}: {name.replace('_', ' ')}"
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


@runtime_checkable
class _Listener(Protocol):
    """A source of what others send, as RelayServer is."""

    def refused(self) -> Mapping[tuple[str, str], int]: ...

    def lost_on_the_way(self) -> Mapping[str, int]: ...


def _senders(source: Source) -> dict[str, dict[str, dict[str, int]]]:
    """Return the losses by sender, where there are senders."""
    if not isinstance(source, _Listener):
        return {}
    senders: dict[str, dict[str, int]] = {}
    for (sender, reason), count in source.refused().items():
        senders.setdefault(sender, {})[reason] = count
    for sender, count in source.lost_on_the_way().items():
        if count:
            senders.setdefault(sender, {})["on_the_way"] = count
    return {"senders": senders}
