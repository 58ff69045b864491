"""Settings to a pipeline: the only module that knows every source, stage and sink."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Callable, TextIO, cast

from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ConfigError
from dnsqmon.decode.decoder import Decoder
from dnsqmon.pipeline import Pipeline
from dnsqmon.render.batch import Clock
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sensor.ahead import DecodeAhead, is_worthwhile
from dnsqmon.sensor.sensor import FrameDecoder, Sensor
from dnsqmon.sinks.csv_file import CsvFile
from dnsqmon.sinks.interval import Interval
from dnsqmon.sinks.line_file import LineFile
from dnsqmon.sinks.screen import Screen
from dnsqmon.sinks.sqlite import SqliteFile
from dnsqmon.sources.capture_file import CaptureFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.assembly.network import Secrets
    from dnsqmon.config.settings import Settings
    from dnsqmon.core.interfaces import Sink, Source
    from dnsqmon.pipeline import Inlet


def assemble(
    settings: Settings,
    out: TextIO,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    once_open: Callable[[], None] = lambda: None,
    hec_token: str | None = None,
) -> Pipeline:
    """Make the pipeline that the settings ask for; raises ConfigError.

    `out` is where queries are displayed; `on_progress(done, total)` follows a file that is read.
    `once_open` is called when the source is open, which may take rights, and before anything else
    is: what cannot be read or written without them fails now, and not later. `hec_token` is the
    token of --hec that the environment gives.
    """
    counters = Counters()
    secrets = _secrets(settings, hec_token)
    source, decoder = _source(settings, counters, on_progress, secrets)
    sinks: list[Sink] = []
    try:
        once_open()
        inlet = _inlet(settings, counters, decoder)
        sinks.extend(_sinks(settings, out, secrets))
    except BaseException:
        source.close()
        raise
    clock = Clock(utc=settings.utc)
    return Pipeline(source, inlet, sinks, counters, clock, patient=not settings.read)


def make_sensor(
    settings: Settings, counters: Counters, decoder: FrameDecoder | None = None
) -> Sensor:
    """Make the stages between source and sinks; raises ConfigError."""
    lists = Lists.load(
        watch=settings.watchlist, common=settings.commonlist, server=settings.serverlist
    )
    first_seen = FirstSeen(settings.first_seen_max)
    scorer = Scorer(settings.name, load_profile(settings.profile), lists, first_seen)
    if settings.state:
        first_seen.keep(settings.state)
    if decoder is None:
        decoder = Decoder(settings.ports, settings.types, counters)
    return Sensor(decoder, scorer, lists, first_seen, counters)


def file_name(settings: Settings) -> str | None:
    """Name the file that -w writes; None without."""
    if not settings.write:
        return None
    return settings.filename or {"csv": "queries.csv", "sql": "queries.db"}[settings.write]


def _secrets(settings: Settings, hec_token: str | None) -> Secrets | None:
    """Read the keys and tokens of the network's settings; None without any of them."""
    if not (settings.server or settings.client or settings.syslog or settings.hec):
        return None
    from dnsqmon.assembly.network import read_secrets  # noqa: PLC0415 - it costs half of the start

    return read_secrets(settings, hec_token)


def _source(
    settings: Settings,
    counters: Counters,
    on_progress: Callable[[int, int], None] | None,
    secrets: Secrets | None,
) -> tuple[Source, DecodeAhead | None]:
    """Open what the packets come from, and give its own decoder where it has one."""
    if settings.server and secrets:
        from dnsqmon.assembly.network import relay_server  # noqa: PLC0415 - as above

        # Its batches are records: they go with the inlet that _inlet makes.
        return cast("Source", relay_server(settings, secrets)), None
    if not settings.read:
        return open_interfaces(settings), None
    if not is_worthwhile(settings.read):
        return CaptureFile(settings.read, on_progress=on_progress), None
    path, decoder = settings.read, Decoder(settings.ports, settings.types, counters)
    ahead = DecodeAhead(
        lambda note: CaptureFile(path, on_progress=note), decoder, counters, on_progress
    )
    # Its batches are queries: they go with the decoder that it is too.
    return cast("Source", ahead), ahead


def _inlet(settings: Settings, counters: Counters, decoder: DecodeAhead | None) -> Inlet:
    """Make the stages between source and sinks; records of a relay need none."""
    if settings.server:
        from dnsqmon.assembly.network import RelayInlet  # noqa: PLC0415 - as above

        return cast("Inlet", RelayInlet(counters))
    return make_sensor(settings, counters, decoder)


def open_interfaces(settings: Settings) -> Source:
    """Open the interfaces of --interface; an engine is loaded only where it is used."""
    engine = settings.engine
    if engine == "scapy" or (engine == "auto" and sys.platform != "linux"):
        from dnsqmon.sources.scapy_sniffer import ScapySniffer  # noqa: PLC0415 - as said

        return ScapySniffer(
            settings.interface,
            promiscuous=not settings.no_promiscuous,
            expression=settings.filter,
            buffer_megabytes=settings.ring_size,
        )
    if sys.platform != "linux":
        raise ConfigError(
            f"--engine native needs Linux, this is {sys.platform}: use --engine scapy"
        )
    from dnsqmon.sources.live import LiveCapture  # noqa: PLC0415 - as said
    from dnsqmon.sources.pcap_filter import compile_filter  # noqa: PLC0415 - as said

    length = settings.snap_length
    return LiveCapture(
        settings.interface,
        settings.ports,
        promiscuous=not settings.no_promiscuous,
        ring_megabytes=settings.ring_size,
        block_ms=settings.block_time,
        snap_length=length,
        program=compile_filter(settings.filter, length) if settings.filter else None,
    )


def _sinks(settings: Settings, out: TextIO, secrets: Secrets | None) -> Iterator[Sink]:
    """Open what the records go to."""
    if settings.display:
        yield Screen(out)
    if settings.json:
        yield Screen(out, "json") if settings.json == "-" else LineFile(settings.json, "json")
    if settings.write:
        name = file_name(settings) or ""
        file: Sink = CsvFile(name) if settings.write == "csv" else SqliteFile(name)
        # A live capture writes every -t seconds as ever; a database wants large transactions.
        if not settings.read or settings.write == "sql":
            file = Interval(file, settings.time)
        yield file
    if secrets:
        from dnsqmon.assembly.network import network_sinks  # noqa: PLC0415 - as above

        yield from network_sinks(settings, secrets)
