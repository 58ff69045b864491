"""Capture files of every make, whole, cut off, damaged, compressed and piped."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re
import runpy
import struct
import subprocess
import sys
import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING, Callable, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import craft
from dnsqmon.core.errors import ConfigError
from dnsqmon.sources.capture_file import CaptureFile
from dnsqmon.sources.pcap import PcapReader
from dnsqmon.sources.pcapng import PcapngReader
from needs import ROOT, need

if TYPE_CHECKING:
    import logging
    from pathlib import Path

#: Link type, time in nanoseconds, frame.
Packet = tuple[int, int, bytes]

FRAMES = [
    craft.ethernet(
        craft.ipv4("10.18.23.35", "10.18.22.12", craft.UDP, craft.udp(4000, 53, message))
    )
    for message in (craft.dns_query("a.example"), craft.dns_query("bc.example"), b"", b"x" * 300)
]
TIMES = [craft.TIME, craft.TIME + 1, 0, 4_294_967_295 * 10**9 + 999_999_999]
CAPTURED = list(zip(TIMES, FRAMES))


class File(NamedTuple):
    """A capture file and the packets in it, in order."""

    content: bytes
    packets: list[Packet]


def floored(times: list[int], unit: float) -> list[int]:
    """Round times down to a unit of whole nanoseconds."""
    return [int(time - time % unit) for time in times]


def ethernet(times: list[int]) -> list[Packet]:
    """Expect the frames with these times on Ethernet."""
    return [(craft.ETHERNET, time, frame) for time, frame in zip(times, FRAMES)]


def kuznetzov(order: str) -> bytes:
    """Build a file of the modified format, whose record headers have 24 bytes."""
    head = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    return head + b"".join(
        record[:16] + struct.pack(order + "IHBB", 1, 8, 0, 0) + record[16:]
        for record in (craft.pcap_record(*frame, byte_order=order) for frame in CAPTURED)
    )


def swapped_lengths(version: tuple[int, int]) -> bytes:
    """Build an old file whose records hold the length on the wire before that in the file."""
    content = craft.pcap([], version=version)
    for time, frame in CAPTURED:
        record = craft.pcap_record(time, frame, wire=len(frame) + 9)
        content += record[:8] + record[12:16] + record[8:12] + record[16:]
    return content


def several_sections() -> File:
    """Build two sections of different byte orders, interfaces, units and kinds of block."""
    little = (
        craft.section()
        + craft.interface(craft.ETHERNET, snap_length=0)
        + craft.block(0x0BAD, b"unknown to anyone")
        + craft.interface(craft.SLL, tsresol=9)
        + craft.enhanced_packet(1_700_000_000_000_001, FRAMES[0])
        + craft.enhanced_packet(1_700_000_000_000_000_007, FRAMES[1], interface_id=1)
        + craft.block(5, struct.pack("<III", 0, 0, 0))
    )
    big = (
        craft.section(byte_order=">", version=(1, 2))
        + craft.interface(craft.RAW, byte_order=">", snap_length=60, tsresol=0x80 | 10, tsoffset=-5)
        + craft.obsolete_packet(1025, FRAMES[2], byte_order=">")
        + craft.simple_packet(FRAMES[3][:60], byte_order=">", wire=len(FRAMES[3]))
        + craft.simple_packet(FRAMES[2], byte_order=">")
        + craft.enhanced_packet(
            1024, FRAMES[3], byte_order=">", options=craft.option(1, b"hello", byte_order=">")
        )
    )
    return File(
        little + big,
        [
            (craft.ETHERNET, 1_700_000_000_000_001_000, FRAMES[0]),
            (craft.SLL, 1_700_000_000_000_000_007, FRAMES[1]),
            (craft.RAW, -5 * 10**9 + 1025 * 10**9 // 1024, FRAMES[2]),
            (craft.RAW, 0, FRAMES[3][:60]),
            (craft.RAW, 0, FRAMES[2]),
            (craft.RAW, -4 * 10**9, FRAMES[3]),
        ],
    )


#: if_tsresol (None: not given) and if_tsoffset in seconds.
RESOLUTIONS = [(code, 0) for code in (None, 0, 3, 6, 9, 12, 0x80, 0x80 | 10, 0x80 | 34)] + [
    (code, offset) for code in (None, 9, 0x80 | 10) for offset in (-3600, 10**9)
]
#: Nanoseconds that 64 bits can span where the unit is finer than a nanosecond.
WIDEST = {12: 2**64 // 1000, 0x80 | 34: 10**9 * 2**30}


def resolved(time: int, tsresol: int | None, offset: int) -> int:
    """Round a time down as a pcapng file of this resolution and offset does; in nanoseconds."""
    code = 6 if tsresol is None else tsresol
    per_second: int = 2 ** (code & 0x7F) if code & 0x80 else 10**code
    return craft.units(time - offset * 10**9, code) * 10**9 // per_second + offset * 10**9


def files() -> dict[str, File]:
    """Build one file of every make."""
    made = {}
    for order, endian in (("<", "le"), (">", "be")):
        for nano, unit in ((False, 1000), (True, 1)):
            made[f"pcap_{endian}_{unit}ns"] = File(
                craft.pcap(CAPTURED, byte_order=order, nano=nano), ethernet(floored(TIMES, unit))
            )
        made[f"pcap_{endian}_modified"] = File(kuznetzov(order), ethernet(floored(TIMES, 1000)))
        for tsresol, offset in RESOLUTIONS:
            # Moments before the offset, or too late for 64 bits of this unit, cannot be written.
            span = range(offset * 10**9, offset * 10**9 + WIDEST.get(tsresol or 6, 2**63))
            frames = [(time, frame) for time, frame in CAPTURED if time in span]
            made[f"ng_{endian}_{tsresol}_{offset}"] = File(
                craft.pcapng(frames, byte_order=order, tsresol=tsresol, tsoffset=offset),
                [
                    (craft.ETHERNET, resolved(time, tsresol, offset), frame)
                    for time, frame in frames
                ],
            )
    for version in ((2, 2), (2, 3), (543, 0)):
        made[f"pcap_{version[0]}_{version[1]}"] = File(
            swapped_lengths(version), ethernet(floored(TIMES, 1000))
        )
    made["pcap_2_3_in_order"] = File(
        craft.pcap(CAPTURED, version=(2, 3)), ethernet(floored(TIMES, 1000))
    )
    made["pcap_fcs"] = File(
        craft.pcap(CAPTURED, nano=True, link_type=0x2400_0000 | craft.SLL2),
        [(craft.SLL2, time, frame) for time, frame in CAPTURED],
    )
    made["pcap_over_snap_length"] = File(
        craft.pcap(CAPTURED, nano=True, snap_length=20), ethernet(TIMES)
    )
    made["pcap_no_records"] = File(craft.pcap([]), [])
    made["ng_no_packets"] = File(craft.section(), [])
    made["ng_several_sections"] = several_sections()
    return made


FILES = files()
every_file = pytest.mark.parametrize("file", [pytest.param(v, id=k) for k, v in FILES.items()])


def read(path: Path | str) -> tuple[list[Packet], list[str]]:
    """Read a capture to its end; give its packets and warnings."""
    source = CaptureFile(str(path))
    packets = [(b.link_type, time, frame) for b in source.batches() for time, frame in b.frames]
    source.close()
    return packets, source.warnings


def reader_of(file: File) -> type[PcapReader | PcapngReader]:
    """Return the reader that the file's first bytes ask for."""
    return PcapngReader if file.content[:4] == b"\x0a\x0d\x0d\x0a" else PcapReader


def is_damage(warnings: list[str]) -> bool:
    """Say whether there are warnings but the one about packets without a time."""
    return any("hold no time" not in text for text in warnings)


@every_file
def test_packets(file: File, tmp_path: Path) -> None:
    """Every make of file gives its link types, exact times and frames, and no complaint."""
    path = tmp_path / "x"
    path.write_bytes(file.content)

    packets, warnings = read(path)

    assert packets == file.packets
    assert not is_damage(warnings)


@every_file
def test_pieces(file: File) -> None:
    """The packets are the same however small the pieces are in which the bytes come."""
    kind = reader_of(file)
    for size in (1, 7, 64):
        pieces = (file.content[i : i + size] for i in range(0, len(file.content), size))
        batches = kind(file.content[:24]).batches(pieces)

        assert [(b.link_type, t, f) for b in batches for t, f in b.frames] == file.packets


@every_file
def test_cut_off(file: File) -> None:
    """A file cut at any byte gives whole records only, and says when the last one is not."""
    kind = reader_of(file)
    counts = []
    silent = 0
    for size in range(24, len(file.content)):
        reader = kind(file.content[:24])
        batches = reader.batches([file.content[:size]])
        packets = [(b.link_type, time, frame) for b in batches for time, frame in b.frames]
        assert packets == file.packets[: len(packets)]
        counts.append(len(packets))
        silent += not is_damage(reader.warnings)

    assert counts == sorted(counts)
    assert silent <= len(file.packets) + 8  # the cuts between two records or blocks
    if len(file.packets) > 1:
        assert counts[-1] == len(file.packets) - 1


@pytest.mark.parametrize("name", ["pcap_be_1ns", "ng_several_sections"])
def test_cut_off_on_disk(name: str, tmp_path: Path) -> None:
    """A file on disk cut at any byte is read up to there, or refused for want of a header."""
    file = FILES[name]
    path = tmp_path / "x"
    for size in range(len(file.content)):
        path.write_bytes(file.content[:size])
        try:
            packets, _ = read(path)
        except ConfigError:
            assert size < 24
        else:
            assert size >= 24
            assert packets == file.packets[: len(packets)]


@every_file
def test_junk_behind(file: File, tmp_path: Path) -> None:
    """Junk behind the last record costs no packet and is not passed over in silence."""
    path = tmp_path / "x"
    path.write_bytes(file.content + b"\xff" * 23)

    packets, warnings = read(path)

    assert packets == file.packets
    assert is_damage(warnings)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
every_compressor = pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)


@every_compressor
@pytest.mark.parametrize("name", ["pcap_le_1ns", "pcap_be_1000ns", "ng_several_sections"])
def test_compressed(compress: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    """A compressed file, of one or several members, reads as its content."""
    file = FILES[name]
    path = tmp_path / "x"
    for content in (
        compress(file.content),
        compress(file.content[:50]) + compress(file.content[50:]),
    ):
        path.write_bytes(content)

        packets, warnings = read(path)

        assert packets == file.packets
        assert not is_damage(warnings)


@every_compressor
def test_compressed_cut_off(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A compressed file cut at any byte gives whole records and a warning, or is refused."""
    file = FILES["pcap_le_1ns"]
    content = compress(file.content)
    path = tmp_path / "x"
    read_some = 0
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            packets, warnings = read(path)
        except ConfigError:
            continue
        read_some += 1
        assert packets == file.packets[: len(packets)]
        assert warnings

    assert read_some


@every_compressor
def test_compressed_damaged(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A compressed file with one damaged byte never raises anything but ConfigError."""
    file = FILES["pcap_le_1ns"]
    content = compress(file.content[:200]) + compress(file.content[200:])
    path = tmp_path / "x"
    outcomes = set()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes((content[place] ^ 0x55,)) + content[place + 1 :])
        try:
            _, warnings = read(path)
        except ConfigError:
            outcomes.add("refused")
        else:
            outcomes.add("warned" if warnings else "unharmed")

    assert {"refused", "warned"} <= outcomes


def pcap_head(size: int) -> bytes:
    """Build the head of a pcap record that claims a size."""
    return struct.pack("<IIII", 1, 1, size, size)


RECORD = craft.pcap_record(*CAPTURED[0], nano=True)
NG_HEAD = craft.section() + craft.interface(tsresol=9)
NG_PACKET = craft.enhanced_packet(*CAPTURED[0])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(
            craft.pcap([], nano=True)
            + RECORD
            + struct.pack("<IIII", 1, 1, size, size)
            + b"x" * 300_000,
            f"claims {size} bytes",
            id=f"pcap_{size}",
        )
        for size in (262_145, 0x7FFFFFFF, 0xFFFFFFFF)
    ]
    + [
        pytest.param(NG_HEAD + NG_PACKET + bad + NG_PACKET, says, id=says)
        for bad, says in (
            (struct.pack("<II", 6, 16) + bytes(8), "type 0x6 claims 16 bytes"),
            (struct.pack("<II", 0xBAD, 8) + bytes(8), "type 0xbad claims 8 bytes"),
            (struct.pack("<II", 0xBAD, 4) + bytes(8), "type 0xbad claims 4 bytes"),
            (struct.pack("<II", 6, 33) + bytes(29), "type 0x6 claims 33 bytes"),
            (struct.pack("<II", 6, 0xFFFFFFFC) + bytes(40), "claims 4294967292 bytes"),
            (struct.pack("<II", 0xBAD, 0xFFFFFFFC) + bytes(40), "cut off"),
            (NG_PACKET[:-4] + bytes(4), "two lengths"),
            (craft.enhanced_packet(1, b"", interface_id=9), "interface 9"),
            (craft.obsolete_packet(1, b"", interface_id=1), "interface 1"),
            (NG_PACKET[:20] + struct.pack("<I", 4000) + NG_PACKET[24:], "claims 4000 bytes"),
            (craft.enhanced_packet(1, bytes(262_145)), "claims 262145 bytes"),
            (craft.section(version=(2, 0)), "version 2"),
            (struct.pack("<III", 0x0A0D0D0A, 28, 0) + bytes(16), "byte-order magic"),
            (craft.section(), "interface 0"),
            (craft.section() + craft.simple_packet(b"x"), "interface 0"),
        )
    ],
)
def test_damaged(
    content: bytes, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Impossible lengths and numbers end the reading after the good records, with one warning."""
    path = tmp_path / "x"
    path.write_bytes(content)

    packets, warnings = read(path)

    assert packets == ethernet(TIMES)[:1]
    assert len(warnings) == 1
    assert says in warnings[0]
    records: list[logging.LogRecord] = caplog.records
    assert [record.getMessage() for record in records] == [f"{path}: {warnings[0]}"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"this is text", "begins with the bytes 74 68 69 73 20 69 73 20"),
        (bytes(100), "00 00 00 00"),
        (b"\xd4\xc3\xb2\xa1", "ends after 4 of 24 bytes"),
        (craft.pcap([], version=(1, 0)), "version is 1.0"),
        (b"\x0a\x0d\x0d\x0a" + bytes(40), "section header is cut off or damaged"),
        (b"\x0a\x0d\x0d\x0a", "section header is cut off or damaged"),
        (gzip.compress(b"this is text"), "74 68 69 73"),
        (gzip.compress(b""), "it is empty"),
        (b"\x1f\x8b", "it is empty"),
    ],
)
def test_no_capture(content: bytes, says: str, tmp_path: Path) -> None:
    """A file that is no capture is refused in one line: name, first bytes, what would do."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        CaptureFile(str(path))

    text = str(caught.value)
    assert text.startswith(f"{path}: is not a capture file: ")
    assert says in text
    assert "give a pcap or pcapng file" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.pcap", "cannot be opened: No such file or directory"),
        (".", "cannot be opened: Is a directory"),
        ("a\0b", "cannot be opened: embedded null byte"),
    ],
)
def test_cannot_open(name: str, says: str, tmp_path: Path) -> None:
    """A file that cannot be opened is refused with the system's reason."""
    path = f"{tmp_path}/{name}"

    with pytest.raises(ConfigError, match=re.escape(f"{path}: {says}")):
        CaptureFile(path)


def test_batches(tmp_path: Path) -> None:
    """A batch ends at 1,024 frames and where the link type changes; progress is told with each."""
    path = tmp_path / "x"
    path.write_bytes(craft.pcap([(1000, b"x")] * 2500))
    told: list[tuple[int, int]] = []
    source = CaptureFile(str(path), on_progress=lambda *done: told.append(done))

    assert [len(batch.frames) for batch in source.batches()] == [1024, 1024, 452]
    source.close()
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert told == sorted(told)
    assert len(told) == 3

    path.write_bytes(FILES["ng_several_sections"].content)
    source = CaptureFile(str(path))

    assert [(batch.link_type, len(batch.frames)) for batch in source.batches()] == [
        (craft.ETHERNET, 1), (craft.SLL, 1), (craft.RAW, 4),
    ]  # fmt: skip
    source.close()


def test_progress_compressed(tmp_path: Path) -> None:
    """Progress in a compressed file is that in the file on disk."""
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(craft.pcap([(i * 1000, os.urandom(60)) for i in range(20_000)])))
    told: list[tuple[int, int]] = []
    source = CaptureFile(str(path), on_progress=lambda *done: told.append(done))

    assert sum(len(batch.frames) for batch in source.batches()) == 20_000
    source.close()
    assert told[0][0] < told[-1][0] <= told[-1][1] == path.stat().st_size


def test_losses(tmp_path: Path) -> None:
    """What the capturing system dropped comes from the last statistics of each interface."""
    path = tmp_path / "x"
    head = craft.section() + craft.interface() + craft.interface()
    statistics = craft.interface_statistics
    path.write_bytes(
        head + statistics(3) + statistics(7) + statistics(20, interface_id=1)
        + craft.section(byte_order=">") + craft.interface(byte_order=">")
        + statistics(100, byte_order=">")
    )  # fmt: skip
    source = CaptureFile(str(path))
    assert source.losses() == {}

    assert list(source.batches()) == []
    source.close()

    assert source.losses() == {"capture_dropped": 127}


def test_stop(tmp_path: Path) -> None:
    """After `stop` the batches end, without a warning about what was not read."""
    path = tmp_path / "x"
    path.write_bytes(craft.pcap([(1000, bytes(1000))] * 50_000))
    source = CaptureFile(str(path))
    batches = source.batches()

    count = len(next(batches).frames)
    source.stop()
    count += sum(len(batch.frames) for batch in batches)
    source.close()

    assert count < 20_000
    assert source.warnings == []


def test_pipe_gives_at_once(tmp_path: Path) -> None:
    """A pipe gives each frame when it comes, empty batches while silent, and can be stopped."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.fdopen(os.open(path, os.O_RDWR), "wb", buffering=0)
    writer.write(craft.pcap(CAPTURED[:1], nano=True))
    source = CaptureFile(str(path))
    batches = source.batches()

    assert next(batches).frames == CAPTURED[:1]
    assert next(batches).frames == []
    writer.write(craft.pcap_record(*CAPTURED[1], nano=True)[:30])
    assert next(batches).frames == []
    writer.write(craft.pcap_record(*CAPTURED[1], nano=True)[30:])
    assert [frame for batch in islice(batches, 2) for frame in batch.frames] == CAPTURED[1:2]
    source.stop()
    assert [batch.frames for batch in batches] == []
    writer.close()
    source.close()
    assert source.warnings == []


COUNT = """
from dnsqmon.sources.capture_file import CaptureFile
source = CaptureFile("-", on_progress=lambda *done: print("progress"))
print(source.name, sum(len(batch.frames) for batch in source.batches()), source.warnings)
"""


@pytest.mark.parametrize("compress", [bytes, *COMPRESSORS.values()])
def test_standard_input(compress: Callable[[bytes], bytes]) -> None:
    """`-` reads standard input, compressed or not, without progress."""
    content = compress(craft.pcap([(1000, bytes(500))] * 5000))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bin")}

    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        input=content,
        env=environment,
        capture_output=True,
        check=True,
    )

    assert done.stdout == b"standard input 5000 []\n"


def test_terminal() -> None:
    """Standard input that is a terminal is refused instead of waited for."""
    primary, terminal = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bin")}

    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        stdin=terminal,
        env=environment,
        capture_output=True,
        check=False,
    )
    os.close(primary)
    os.close(terminal)

    assert b"ConfigError: standard input: is a terminal" in done.stderr


@pytest.mark.parametrize("make", [craft.pcap, craft.pcapng])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_memory_stays_flat(
    make: Callable[[list[tuple[int, bytes]]], bytes],
    compress: Callable[[bytes], bytes],
    tmp_path: Path,
) -> None:
    """A file of 60 MB, of large frames or compressed to almost nothing, takes a fifth of that."""
    path = tmp_path / "x"
    path.write_bytes(compress(make([(1000, bytes(60_000))] * 1000)))
    source = CaptureFile(str(path))

    tracemalloc.start()
    frames = sum(len(batch.frames) for batch in source.batches())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()

    assert frames == 1000
    assert peak < 12_000_000


@given(st.sampled_from(["<", ">"]), st.binary(max_size=400))
def test_any_bytes_after_a_header(order: str, junk: bytes) -> None:
    """No bytes behind a valid header make a reader raise."""
    for head in (
        craft.pcap([], byte_order=order),
        craft.section(byte_order=order) + craft.interface(byte_order=order),
    ):
        kind = PcapReader if len(head) == 24 else PcapngReader
        for batch in kind(head[:24]).batches([head, junk]):
            assert sum(len(frame) for _, frame in batch.frames) <= len(junk)


@given(
    st.lists(
        st.tuples(st.sampled_from([0x0A0D0D0A, 1, 2, 3, 5, 6, 4, 0xBAD]), st.binary(max_size=64)),
        max_size=12,
    )
)
def test_any_blocks(blocks: list[tuple[int, bytes]]) -> None:
    """No content of well-framed pcapng blocks makes the reader raise."""
    content = NG_HEAD + b"".join(craft.block(kind, body) for kind, body in blocks)

    for batch in PcapngReader(content[:24]).batches([content]):
        assert batch.frames


def corpus_files(corpus: Path) -> list[Path]:
    """Find the captures of the corpus."""
    kinds = {".pcap", ".pcapng", ".gz", ".bz2", ".xz"}
    return sorted(path for path in corpus.rglob("*") if path.suffix in kinds)


#: Files in which tshark finds other frames or times, and why.
DIFFERENCES = {
    "be-basic-test017.pcapng": "it counts custom blocks as frames",
    "le-basic-test017.pcapng": "it counts custom blocks as frames",
    "ng_multi_if_be.pcapng": "it counts custom blocks as frames",
    "ng_multi_if_le.pcapng": "it counts custom blocks as frames",
    "pcap_plain.pcap.bz2": "it does not read bzip2",
    "pcap_plain.pcap.xz": "it does not read xz",
}


def nanoseconds(epoch: str) -> int:
    """Parse seconds exactly; a microsecond field of 1,500,000 is printed as .1500000000."""
    seconds, _, fraction = epoch.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


def seen_by_capinfos(paths: list[Path]) -> dict[str, tuple[int, int, int]]:
    """Return number, earliest and latest frame time of the files it finds whole and dated."""
    done = subprocess.run(
        ["capinfos", "-T", "-m", "-r", "-c", "-a", "-e", "-S", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        path: (int(count), nanoseconds(first), nanoseconds(last))
        for path, count, first, last in csv.reader(done.stdout.splitlines())
        if "n/a" not in {first, last}
    }


def seen_by_tshark(path: Path) -> list[int]:
    """Return the times of the frames up to where it stops; 0 where a packet has none."""
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [nanoseconds(line or "0") for line in done.stdout.splitlines()]


def test_corpus_frames(corpus: Path) -> None:
    """The frames of each real capture and their times are those that Wireshark's tools find.

    capinfos sums all files up in one go; where it has no answer or another, tshark is asked for
    each frame.
    """
    need("capinfos", "tshark")
    paths = corpus_files(corpus)
    summed_up = seen_by_capinfos(paths)

    differing = set()
    for path in paths:
        try:
            packets, _ = read(path)
        except ConfigError:
            packets = []
            assert path.name.startswith("notpcap_")
        times = [time for _, time, _ in packets]
        agreed = times and summed_up.get(str(path)) == (len(times), min(times), max(times))
        if not agreed and seen_by_tshark(path) != times:
            differing.add(path.name)

    assert len(paths) > 290
    assert differing == set(DIFFERENCES)


def test_corpus_times(corpus: Path) -> None:
    """The time of each frame that carries a query is that which tshark gives it."""
    differing = set()
    rows = 0
    for path in corpus_files(corpus):
        truth = path.with_suffix(".all.tsv")
        if path.suffix in {".gz", ".bz2", ".xz"}:  # pcap_plain.pcap.gz has pcap_plain_gz.all.tsv
            truth = path.with_name(path.name.replace(".pcap.", "_") + ".all.tsv")
        with truth.open(encoding="utf-8", newline="") as file:
            wanted = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if wanted:
            packets, _ = read(path)
        for row in wanted:
            rows += 1
            time = nanoseconds(row["time_epoch"]) if row["time_epoch"] else 0
            if packets[int(row["frame"]) - 1][1] != time:
                differing.add(path.name)

    assert rows > 7000
    assert differing == set()


def test_demo_capture() -> None:
    """The demo capture is what its script makes, byte for byte, small, and reads whole."""
    shipped = ROOT / "tests" / "data" / "demo.pcap"
    made = runpy.run_path(str(shipped.with_name("make_demo.py")))["demo"]()

    packets, warnings = read(shipped)

    assert made == shipped.read_bytes()
    assert len(made) < 200_000
    assert 600 <= len(packets) <= 1000
    assert [time for _, time, _ in packets] == sorted(time for _, time, _ in packets)
    assert packets[0][1] == 1_772_438_400 * 10**9
    assert warnings == []


def test_benchmark_capture(tmp_path: Path) -> None:
    """The benchmark's generator writes the frames it counts, the same for the same seed."""
    script = ROOT / "tests" / "bench" / "generate.py"
    write = runpy.run_path(str(script))["write"]
    counts = write(tmp_path / "a", 5000, 1)
    write(tmp_path / "b", 5000, 1)
    write(tmp_path / "c", 5000, 2)

    packets, warnings = read(tmp_path / "a")

    assert len(packets) == counts["frames"] == 5000
    assert counts["ipv4"] + counts["ipv6"] - counts["tcp_frames"] >= 5000 - counts["tcp_frames"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()
    assert warnings == []
