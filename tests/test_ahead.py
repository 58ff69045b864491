"""A file decoded in a process of its own gives what it gives without, to the last count."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Callable

import pytest

import craft
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ConfigError, SourceError
from dnsqmon.decode.decoder import Decoder
from dnsqmon.sensor import ahead as decode_ahead
from dnsqmon.sensor.ahead import DecodeAhead, is_worthwhile
from dnsqmon.sources.capture_file import CaptureFile
from needs import ROOT
from receivers import is_asleep, wait_until

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from dnsqmon.core.record import Query

DEMO = ROOT / "tests/data/demo.pcap"


def _ahead(
    path: str, on_progress: Callable[[int, int], None] | None = None
) -> tuple[DecodeAhead, Counters]:
    counters = Counters()
    decoder = Decoder((53,), (1, 28, 12), counters)
    ahead = DecodeAhead(
        lambda note: CaptureFile(path, on_progress=note), decoder, counters, on_progress
    )
    return ahead, counters


def _child() -> BaseProcess:
    """Return the one process that was started."""
    (child,) = multiprocessing.active_children()
    return child


def _queries(ahead: DecodeAhead) -> list[Query]:
    return [query for step in ahead.batches() for query in ahead.decode(step)]


def test_same_as_without() -> None:
    """Queries, their order and all counts are those of a decoder in this process."""
    expected = Counters()
    decoder = Decoder((53,), (1, 28, 12), expected)
    source = CaptureFile(str(DEMO))
    queries = [query for batch in source.batches() for query in decoder.decode(batch)]
    decoder.finish()
    source.close()
    told: list[tuple[int, int]] = []

    ahead, counters = _ahead(str(DEMO), lambda *done: told.append(done))

    assert _queries(ahead) == queries
    ahead.close()
    assert vars(counters) == vars(expected)
    assert counters.packets > 800
    assert told[-1] == (DEMO.stat().st_size,) * 2


def test_stop(tmp_path: Path) -> None:
    """After `stop` the batches end, and every packet that was decoded is accounted for."""
    path = tmp_path / "long.pcap"
    frame = craft.ethernet(craft.ipv4("10.0.0.1", "10.0.0.2", craft.UDP, b"short"))
    path.write_bytes(craft.pcap([(craft.TIME, frame)] * 200_000))
    ahead, counters = _ahead(str(path))
    steps = ahead.batches()
    ahead.decode(next(steps))

    ahead.stop()
    for step in steps:
        ahead.decode(step)

    ahead.close()
    assert 0 < counters.packets < 200_000
    assert counters.adds_up()


def test_refused_where_it_is_made(tmp_path: Path) -> None:
    """A file that is no capture is refused before there is a process."""
    path = tmp_path / "no.pcap"
    path.write_bytes(b"no capture")

    with pytest.raises(ConfigError):
        _ahead(str(path))


def test_end_of_the_process(tmp_path: Path) -> None:
    """A process that is killed ends the run with an error, not with a short file."""
    path = tmp_path / "long.pcap"
    path.write_bytes(craft.pcap([(craft.TIME, b"x" * 60)] * 200_000))
    ahead, _ = _ahead(str(path))
    steps = ahead.batches()
    next(steps)

    _child().kill()

    with pytest.raises(SourceError, match=r"the process that decodes it ended \(-9\)"):
        list(steps)
    ahead.close()


def test_end_in_the_middle_of_a_message(tmp_path: Path) -> None:
    """Killed while the pipe holds the half of a message, it ends the run with the same error."""
    path = tmp_path / "long.pcap"
    long = ".".join(["x" * 60] * 3)  # so that no pipe holds the names of one batch
    queries = [craft.dns_query(f"{long}.n{number}.example") for number in range(5_000)]
    path.write_bytes(
        craft.pcap(
            [
                (
                    craft.TIME,
                    craft.ethernet(
                        craft.ipv4("192.0.2.1", "192.0.2.53", craft.UDP, craft.udp(9, 53, query))
                    ),
                )
                for query in queries
            ]
        )
    )
    ahead, _ = _ahead(str(path))
    steps = ahead.batches()
    next(steps)
    wait_until(lambda: is_asleep(_child().pid), "the pipe is full")

    _child().kill()

    with pytest.raises(SourceError, match=r"the process that decodes it ended \(-9\)"):
        list(steps)
    ahead.close()


def test_close_before_the_end(tmp_path: Path) -> None:
    """Closing early ends the process."""
    path = tmp_path / "long.pcap"
    path.write_bytes(craft.pcap([(craft.TIME, b"x" * 60)] * 200_000))
    ahead, _ = _ahead(str(path))
    next(ahead.batches())

    ahead.close()

    assert multiprocessing.active_children() == []


def test_worthwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a long regular file is, where there is more than one processor."""
    monkeypatch.setattr(decode_ahead, "WORTHWHILE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    short, long = tmp_path / "short", tmp_path / "long"
    short.write_bytes(bytes(9))
    long.write_bytes(bytes(10))

    assert is_worthwhile(str(long))
    assert not is_worthwhile(str(short))
    assert not is_worthwhile(str(tmp_path / "none"))
    assert not is_worthwhile("-")
    assert not is_worthwhile("/dev/null")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    assert not is_worthwhile(str(long))
