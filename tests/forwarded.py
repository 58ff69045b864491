"""Batches of records to forward, as the pipeline hands them to a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsqmon.render.batch import Clock, Rendered

if TYPE_CHECKING:
    from dnsqmon.core.record import Record

#: 2014-01-01 15:38:51 UTC, a time of the original's own sample.
SECOND = 1_388_590_731


def records(count: int, first: int = 0, *, score: int = 5) -> list[Record]:
    """Make records whose names tell them apart: q0.example.com, q1.example.com, ..."""
    return [
        (
            SECOND * 1_000_000_000 + number * 1_000_000 + 123_456,
            "sensor-1", f"192.0.2.{number % 250}", 1024 + number % 60000, "198.51.100.53", 53,
            "A", f"q{number}.example.com", "com", "example.com", 3, score, "f",
            "udp", number % 65536, {"first_seen": 5},
        )
        for number in range(first, first + count)
    ]  # fmt: skip


def batch(count: int, first: int = 0, *, score: int = 5) -> Rendered:
    """Make a batch of such records, with times in UTC."""
    return Rendered(records(count, first, score=score), Clock(utc=True))


def names(texts: list[str]) -> list[str]:
    """Return the names q0.example.com, ... out of lines that hold the 14 fields."""
    return [next(field for field in text.split(",") if field.startswith("q")) for text in texts]
