"""Settings to a pipeline: the only module that knows every source, stage and sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, TextIO

from dnsqmon.counters import Counters
from dnsqmon.decode.decoder import Decoder
from dnsqmon.errors import ConfigError
from dnsqmon.pipeline import Pipeline
from dnsqmon.render import Clock
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sensor import Sensor
from dnsqmon.sinks.csv_file import CsvFile
from dnsqmon.sinks.interval import Interval
from dnsqmon.sinks.screen import Screen
from dnsqmon.sinks.sqlite import SqliteFile
from dnsqmon.sources.capture_file import CaptureFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.interfaces import Sink, Source
    from dnsqmon.settings import Settings


def assemble(
    settings: Settings,
    out: TextIO,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pipeline:
    """Make the pipeline that the settings ask for; raises ConfigError.

    `out` is where queries are displayed; `on_progress(done, total)` follows a file that is read.
    """
    counters = Counters()
    sensor = make_sensor(settings, counters)
    source = _source(settings, on_progress)
    sinks = list(_sinks(settings, out))
    clock = Clock(utc=settings.utc)
    return Pipeline(source, sensor, sinks, counters, clock, patient=not settings.read)


def make_sensor(settings: Settings, counters: Counters) -> Sensor:
    """Make the stages between source and sinks; raises ConfigError."""
    lists = Lists.load(
        watch=settings.watchlist, common=settings.commonlist, server=settings.serverlist
    )
    first_seen = FirstSeen(settings.first_seen_max)
    scorer = Scorer(settings.name, load_profile(settings.profile), lists, first_seen)
    if settings.state:
        first_seen.keep(settings.state)
    decoder = Decoder(settings.ports, settings.types, counters)
    return Sensor(decoder, scorer, lists, first_seen, counters)


def file_name(settings: Settings) -> str | None:
    """Name the file that -w writes; None without."""
    if not settings.write:
        return None
    return settings.filename or {"csv": "queries.csv", "sql": "queries.db"}[settings.write]


def _source(settings: Settings, on_progress: Callable[[int, int], None] | None) -> Source:
    """Open what the packets come from."""
    if settings.read:
        return CaptureFile(settings.read, on_progress=on_progress)
    text = "--interface and --server are not there yet: read a capture file with -r"
    raise ConfigError(text)


def _sinks(settings: Settings, out: TextIO) -> Iterator[Sink]:
    """Open what the records go to."""
    if settings.display:
        yield Screen(out)
    if settings.json:
        yield Screen(out, "json") if settings.json == "-" else Screen.to_file(settings.json)
    if settings.write:
        name = file_name(settings) or ""
        file: Sink = CsvFile(name) if settings.write == "csv" else SqliteFile(name)
        # A live capture writes every -t seconds as ever; a database wants large transactions.
        if not settings.read or settings.write == "sql":
            file = Interval(file, settings.time)
        yield file
    if settings.client or settings.syslog:
        text = "--client and --syslog are not there yet: write with -w, -d or --json"
        raise ConfigError(text)
