"""Captures of queries, and the records that the real stages make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import craft
from dnsqmon.core.counters import Counters
from dnsqmon.core.record import FrameBatch
from dnsqmon.decode.decoder import Decoder
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sensor.sensor import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dnsqmon.core.record import Frame, Record

CLIENT, SERVER = "10.18.24.123", "10.18.22.12"


def query(
    name: craft.Name, src: str = CLIENT, dst: str = SERVER, *, sport: int = 40000, qtype: int = 1
) -> bytes:
    """Build the Ethernet frame of a DNS query over UDP."""
    packet = craft.ipv6 if ":" in src else craft.ipv4
    payload = craft.udp(sport, 53, craft.dns_query(name, qtype))
    return craft.ethernet(packet(src, dst, craft.UDP, payload))


def noise() -> bytes:
    """Build a frame that is no DNS."""
    return craft.ethernet(
        craft.ipv4(CLIENT, SERVER, craft.UDP, craft.udp(40000, 123, b"no DNS at all"))
    )


def timed(frames: Iterable[bytes], start: int = craft.TIME) -> list[Frame]:
    """Return each frame a time, one second after the one before."""
    return [(start + number * 10**9, frame) for number, frame in enumerate(frames)]


def capture(path: Path, frames: Iterable[bytes], start: int = craft.TIME) -> Path:
    """Write a pcap file of the frames."""
    path.write_bytes(craft.pcap(timed(frames, start)))
    return path


def sensor(
    *,
    profile: str = "classic",
    lists: Lists | None = None,
    first_seen: FirstSeen | None = None,
) -> Sensor:
    """Make the stages between source and sinks, for A, AAAA and PTR on port 53."""
    counters = Counters()
    lists, first_seen = lists or Lists(), first_seen or FirstSeen(1000)
    scorer = Scorer("roonet", load_profile(profile), lists, first_seen)
    return Sensor(
        Decoder((53,), (1, 28, 12), counters), scorer, lists, first_seen, counters
    )  # fmt: skip


def take(stages: Sensor, *frames: bytes) -> list[Record]:
    """Return the records of frames one second apart."""
    return stages.take(FrameBatch(craft.ETHERNET, timed(frames)))


def load_lists(
    folder: Path,
    *,
    watch: str | None = None,
    common: str | None = None,
    server: str | None = None,
) -> Lists:
    """Load lists of space-separated entries from files in `folder`."""
    paths = {}
    for name, entries in (("watch", watch), ("common", common), ("server", server)):
        if entries is not None:
            path = folder / f"{name}.txt"
            path.write_text("".join(f"{entry}\n" for entry in entries.split()))
            paths[name] = str(path)
    return Lists.load(**paths)


def verdict(record: Record) -> tuple[int, str]:
    """Return a record's score and flags."""
    return record[11], record[12]
