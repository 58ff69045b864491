"""The spool: order, bounds, survival, and a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.errors import ConfigError
from dnsqmon.sinks import spool as module
from dnsqmon.sinks.spool import Spool
from needs import ROOT
from small_disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 1 << 20


def lines(count: int, first: int = 0, width: int = 10) -> list[str]:
    """Make lines that tell their number, each `width` characters."""
    return [f"{number:0{width}d}" for number in range(first, first + count)]


def drain(spool: Spool) -> list[str]:
    """Take and settle everything that waits."""
    texts: list[str] = []
    while chunks := spool.take(1000, LIMIT, 0, 0):
        for chunk in chunks:
            texts.extend(chunk.payload.decode().split("\n"))
        spool.settle(chunks, {})
    return texts


def total(counts: dict[str, int]) -> int:
    """Sum what became of the lines."""
    return sum(count for name, count in counts.items() if name != "resumed")


@pytest.fixture(name="path", params=["file", "memory"])
def _path(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return str(tmp_path / "spool.db") if request.param == "file" else None


def test_gives_back_what_was_put_in_in_order(path: str | None) -> None:
    """Lines come out once, in the order they went in, however they were cut into chunks."""
    spool = Spool(path, LIMIT)
    expected = lines(1234)
    for start in range(0, 1234, 77):
        spool.append(expected[start : start + 77])
    assert drain(spool) == expected
    assert spool.counts() == {"written": 1234, "waiting": 0, "resumed": 0}
    assert spool.close() == 0


@pytest.mark.parametrize(("most_lines", "most_bytes"), [(1000, LIMIT), (10_000, 30_000), (1, 1)])
def test_takes_within_both_bounds(path: str | None, most_lines: int, most_bytes: int) -> None:
    """A take holds no more lines and bytes than asked for, but always at least one chunk."""
    spool = Spool(path, LIMIT)
    spool.append(lines(3000))
    chunks = spool.take(most_lines, most_bytes, 0, 0)
    assert len(chunks) == 1 or (
        sum(chunk.records for chunk in chunks) <= most_lines
        and sum(len(chunk.payload) for chunk in chunks) <= most_bytes
    )
    spool.close()


def test_lines_given_back_come_first(path: str | None) -> None:
    """What a sender could not send is taken again before anything newer."""
    spool = Spool(path, LIMIT)
    spool.append(lines(500))
    spool.append(lines(500, 500))
    failed = spool.take(500, LIMIT, 0, 0)
    spool.append(lines(500, 1000))
    spool.give_back(failed)
    assert drain(spool) == lines(1500)
    spool.close()


def test_lost_lines_are_counted_by_reason(path: str | None) -> None:
    """A destination that settles a batch without some of its lines makes them a named loss."""
    spool = Spool(path, LIMIT)
    spool.append(lines(10))
    spool.settle(spool.take(10, LIMIT, 0, 0), {"refused": 3})
    assert spool.counts() == {"written": 7, "waiting": 0, "resumed": 0, "lost_refused": 3}
    spool.close()


def test_the_bound_forces_out_the_oldest_and_counts_them(path: str | None) -> None:
    """When more bytes wait than the limit, the oldest lines go, and the counts still add up."""
    spool = Spool(path, 20_000)
    for start in range(0, 5000, 100):
        spool.append(lines(100, start))
    counts = spool.counts()
    assert counts["lost_spool_full"] > 0
    assert total(counts) == 5000
    kept = drain(spool)
    assert kept == lines(len(kept), 5000 - len(kept))
    assert 15_000 < len("\n".join(kept)) <= 20_000
    spool.close()


def test_lines_in_a_senders_hands_are_not_forced_out(path: str | None) -> None:
    """The bound takes the oldest line that is not being sent, so that none counts twice."""
    spool = Spool(path, 3000)
    spool.append(lines(100))
    taken = spool.take(100, LIMIT, 0, 0)
    for start in range(100, 1000, 100):
        spool.append(lines(100, start))
    spool.settle(taken, {})
    counts = spool.counts()
    assert counts["written"] == 100
    assert total(counts) == 1000
    spool.close()


def test_take_lingers_for_company(path: str | None) -> None:
    """With a linger, lines wait for a full batch; hurry ends all waiting."""
    spool = Spool(path, LIMIT)
    spool.append(lines(1))
    assert spool.take(10, LIMIT, 60, 0) == []
    spool.append(lines(9))
    assert sum(chunk.records for chunk in spool.take(10, LIMIT, 60, 0)) == 10
    spool.append(lines(1))
    spool.hurry()
    assert len(spool.take(10, LIMIT, 60, 60)) == 1
    assert spool.take(10, LIMIT, 60, 60) == []
    spool.close()


def test_take_wakes_for_new_lines(path: str | None) -> None:
    """A sender that waits for lines gets them when they come."""
    spool = Spool(path, LIMIT)
    taken: list[int] = []
    thread = threading.Thread(target=lambda: taken.append(len(spool.take(10, LIMIT, 0, 30))))
    thread.start()
    spool.append(lines(1))
    thread.join(20)
    assert taken == [1]
    spool.close()


def test_a_file_outlives_its_closing(tmp_path: Path) -> None:
    """What waits in a file when it is closed waits there when it is opened again, in order."""
    path = str(tmp_path / "spool.db")
    spool = Spool(path, LIMIT)
    spool.append(lines(100))
    spool.settle(spool.take(1, LIMIT, 0, 0), {})
    spool.append(lines(100, 100))
    taken = spool.take(1, LIMIT, 0, 0)
    assert taken
    assert spool.close() == 0
    again = Spool(path, LIMIT)
    assert again.counts() == {"written": 0, "waiting": 100, "resumed": 100}
    assert drain(again) == lines(100, 100)
    again.close()


def test_memory_loses_and_counts_what_waits_at_its_closing() -> None:
    """Without a file, what waits at the end is a counted loss."""
    spool = Spool(None, LIMIT)
    spool.append(lines(5))
    assert spool.close() == 5
    assert spool.counts()["lost_unsent"] == 5
    spool.append(lines(2))
    assert total(spool.counts()) == 7


_APPENDS_FOR_EVER = """
import sys
from dnsqmon.sinks.spool import Spool
spool = Spool(sys.argv[1], 1 << 30)
number = 0
while True:
    spool.append([f"{number + n:010d}" for n in range(50)])
    number += 50
    print(number, flush=True)
"""


def test_kill_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    """After kill -9 under load, every line that append had accepted is in the file."""
    path = str(tmp_path / "spool.db")
    process = subprocess.Popen(
        [sys.executable, "-c", _APPENDS_FOR_EVER, path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
    )
    assert process.stdout
    with process:
        said = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        said.extend(process.stdout)
        accepted = int(next(line for line in reversed(said) if line.endswith(b"\n")))
    assert accepted >= 50 * 200
    spool = Spool(path, 1 << 30)
    kept = drain(spool)
    assert kept[:accepted] == lines(accepted)
    spool.close()


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    """A second dnsqmon on the same spool is refused with the fix, and harms nothing."""
    path = str(tmp_path / "spool.db")
    spool = Spool(path, LIMIT)
    spool.append(lines(3))
    with pytest.raises(ConfigError, match="another dnsqmon uses this spool"):
        Spool(path, LIMIT)
    assert drain(spool) == lines(3)
    spool.close()


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_a_file_that_is_no_spool_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A damaged file, or a directory in its place, is a ConfigError that names the path."""
    path = tmp_path / "spool.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        Spool(str(path), LIMIT)


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 1024) as disk:
        yield disk


def test_a_full_disk_loses_nothing_while_memory_lasts(disk: Path) -> None:
    """Lines that the disk does not take wait in memory, and all come out once, in order."""
    spool = Spool(str(disk / "spool.db"), 1 << 30)
    expected = lines(4000, width=1000)
    for start in range(0, 4000, 100):
        spool.append(expected[start : start + 100])
    assert spool.counts() == {"written": 0, "waiting": 4000, "resumed": 0}
    assert drain(spool) == expected
    assert spool.counts() == {"written": 4000, "waiting": 0, "resumed": 0}
    assert spool.close() == 0


def test_a_disk_with_room_again_takes_what_waits_in_memory(disk: Path) -> None:
    """When the disk has room, lines in memory move to the file, and survive the end."""
    filler = disk / "filler"
    path = str(disk / "spool.db")
    spool = Spool(path, 1 << 30)
    spool.append(lines(1))
    filler.write_bytes(b"x" * (free_bytes(disk) - 4096))
    for start in range(0, 300, 100):
        spool.append(lines(100, 1 + start, width=1000))
    filler.unlink()
    spool.append(lines(1, 301))
    assert spool.close() == 0
    again = Spool(path, 1 << 30)
    assert [int(text) for text in drain(again)] == list(range(302))
    again.close()


def test_a_full_disk_and_full_memory_force_out_and_count(disk: Path) -> None:
    """When memory is full too, the oldest lines go; what is kept comes out once, in order."""
    spool = Spool(str(disk / "spool.db"), 1 << 30, overflow=500_000)
    for start in range(0, 6000, 100):
        spool.append(lines(100, start, width=1000))
    counts = spool.counts()
    assert counts["lost_disk_full"] > 0
    assert total(counts) == 6000
    kept = [int(text) for text in drain(spool)]
    assert len(kept) == counts["waiting"]
    assert kept == sorted(set(kept))
    assert kept[-1] == 5999
    assert kept[0] > 0
    spool.close()


def test_chunks_respect_their_bounds() -> None:
    """No chunk holds more lines or bytes than the constants say, so that memory is bounded."""
    spool = Spool(None, 1 << 30)
    spool.append(lines(3000, width=400))
    while chunks := spool.take(1, 1, 0, 0):
        assert chunks[0].records <= module.CHUNK_LINES
        assert len(chunks[0].payload) <= module.CHUNK_BYTES
        spool.settle(chunks, {})
    spool.close()


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_bsize
