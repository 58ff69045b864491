"""Bytes of a pcap file (draft-ietf-opsawg-pcap), in pieces of any size, to batches of frames.

Does no I/O. Only the part of a piece that did not fill a record is kept, so memory does not grow
with the file. Bytes that make no sense end the reading with a text in `warnings`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Callable

from dnsqmon.core.record import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dnsqmon.core.record import Frame

#: Frames in a batch, at most: so few that a batch and what is made of it stay in the processor's
#: cache from stage to stage, which is a third of the program's speed.
BATCH = 1024
#: Bytes of file that are held as frames, about, before a batch goes out with fewer.
BATCH_BYTES = 4 * 1024 * 1024
#: Bytes of the longest frame that is believed (libpcap's MAXIMUM_SNAPLEN).
MAX_FRAME = 262_144
#: Bytes of the file header.
HEADER = 24

#: First four bytes of a file: byte order, nanoseconds in a unit, bytes of a record header.
MAGICS = {
    struct.pack(order + "I", magic): (order, scale, header)
    for order in "<>"
    for magic, scale, header in (
        (0xA1B2C3D4, 1000, 16),
        (0xA1B23C4D, 1, 16),
        (0xA1B2CD34, 1000, 24),  # Kuznetzov's patch: interface and protocol follow the lengths
    )
}


class NotACaptureError(Exception):
    """The file header is not one that can be read; the text says why."""


class PcapReader:
    """Read pcap: both byte orders, micro- and nanoseconds, versions from 2.0 on."""

    def __init__(self, head: bytes) -> None:
        order, self._nanoseconds, self._record_size = MAGICS[head[:4]]
        if len(head) < HEADER:
            raise NotACaptureError(f"its pcap header ends after {len(head)} of {HEADER} bytes")
        major, minor, link_type = struct.unpack_from(order + "HH12xI", head, 4)
        if major not in {2, 543}:  # 543.0 is what NetBSD's ppp wrote
            raise NotACaptureError(f"its pcap version is {major}.{minor}, not 2.x")
        self._unpack: Callable[[bytes, int], tuple[int, ...]] = struct.Struct(
            order + "III"
        ).unpack_from
        if major == 543 or minor < 4:
            self._unpack = _either_length(order)
        self._link_type = (
            link_type & 0xFFFF
        )  # the upper half tells the length of a frame check sequence
        self.warnings: list[str] = []
        self.dropped = 0

    def batches(self, pieces: Iterable[bytes]) -> Iterator[FrameBatch]:
        """Yield the frames of `pieces`; at an empty piece at once those it has, if any."""
        unpack, scale, link_type = self._unpack, self._nanoseconds, self._link_type
        header = self._record_size
        frames: list[Frame] = []
        buffer, at, held = b"", HEADER, 0
        for piece in pieces:
            if not piece:
                yield FrameBatch(link_type, frames)
                frames = []
                continue
            buffer, at = roll(buffer, at, piece)
            size = len(buffer)
            last = size - header
            while at <= last:
                seconds, fraction, length = unpack(buffer, at)
                start = at + header
                end = start + length
                if length > MAX_FRAME:
                    yield FrameBatch(link_type, frames)
                    self.warnings.append(f"a record claims {length} bytes; reading ended before it")
                    return
                if end > size:
                    break
                frames.append((seconds * 1_000_000_000 + fraction * scale, buffer[start:end]))
                at = end
                if len(frames) == BATCH:
                    yield FrameBatch(link_type, frames)
                    frames, held = [], 0
            held += len(piece)
            if held >= BATCH_BYTES and frames:
                yield FrameBatch(link_type, frames)
                frames, held = [], 0
        if frames:
            yield FrameBatch(link_type, frames)
        if at != len(buffer):
            self.warnings.append("it is cut off in the middle of its last record")


def roll(buffer: bytes, at: int, piece: bytes) -> tuple[bytes, int]:
    """Append a piece and drop what lies before `at`, which may lie past the end of `buffer`."""
    return buffer[at:] + piece, max(0, at - len(buffer))


def _either_length(order: str) -> Callable[[bytes, int], tuple[int, ...]]:
    """Make an unpacker for versions before 2.4, which wrote the two lengths in either order."""
    unpack = struct.Struct(order + "IIII").unpack_from

    def smaller_length(buffer: bytes, at: int) -> tuple[int, ...]:
        seconds, fraction, *lengths = unpack(buffer, at)
        return seconds, fraction, min(lengths)

    return smaller_length
