"""Bytes of a pcapng file (draft-ietf-opsawg-pcapng), in pieces of any size, to batches of frames.

Does no I/O. Only the part of a piece that did not fill a block is kept, so memory does not grow
with the file. Bytes that make no sense end the reading with a text in `warnings`.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Callable, ClassVar, NamedTuple

from dnsqmon.core.record import FrameBatch
from dnsqmon.sources.pcap import BATCH, BATCH_BYTES, HEADER, MAX_FRAME, NotACaptureError, roll

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dnsqmon.core.record import Frame

    Packet = tuple[int, Frame]

#: Bytes of the longest block that is held in memory, as in libpcap; unknown ones are skipped.
MAX_BLOCK = 16 * 1024 * 1024
#: The type of a section header, which reads the same in either byte order, and its four bytes.
SECTION = 0x0A0D0D0A
MAGIC = struct.pack("<I", SECTION)
#: What stands for a block that is skipped: bytes of the shortest, and nothing that reads it.
UNKNOWN = (12, None)
BYTE_ORDERS = {struct.pack(order + "I", 0x1A2B3C4D): order for order in "<>"}


class Interface(NamedTuple):
    """What an Interface Description Block says about the packets that name it."""

    link_type: int
    snap_length: int  # 0: none
    scale: int  # nanoseconds = units * scale // per + offset
    per: int
    offset: int


class PcapngReader:
    """Read pcapng: any number of sections and interfaces, packet blocks of all three kinds.

    A Simple Packet Block holds no time; its frame gets the time 0, as libpcap gives it.
    """

    def __init__(self, head: bytes) -> None:
        self._use_byte_order("<")
        self._section = 0
        self._interfaces: list[Interface] = []
        self._drops: dict[tuple[int, int], int] = {}
        self._timeless = False
        self.warnings: list[str] = []
        if len(head) < HEADER or head[8:12] not in BYTE_ORDERS:
            raise NotACaptureError("its pcapng section header is cut off or damaged")

    @property
    def dropped(self) -> int:
        """How many packets the capturing system says it dropped."""
        return sum(self._drops.values())

    def batches(self, pieces: Iterable[bytes]) -> Iterator[FrameBatch]:
        """Yield the frames of `pieces`; at an empty piece at once those it has, if any."""
        frames: list[Frame] = []
        link_type, held = 1, 0
        try:
            for packet in self._packets(pieces):
                if packet is None:
                    yield FrameBatch(link_type, frames)
                    frames = []
                    continue
                of_link_type, frame = packet
                if of_link_type != link_type:
                    if frames:
                        yield FrameBatch(link_type, frames)
                    frames, held = [], 0
                    link_type = of_link_type
                frames.append(frame)
                held += len(frame[1])
                if len(frames) == BATCH or held >= BATCH_BYTES:
                    yield FrameBatch(link_type, frames)
                    frames, held = [], 0
        except _DamagedError as damage:
            self.warnings.append(str(damage))
        if frames:
            yield FrameBatch(link_type, frames)
        if self._timeless:
            self.warnings.append(
                "it has simple packet blocks, which hold no time: dated 1970-01-01"
            )

    def _packets(self, pieces: Iterable[bytes]) -> Iterator[Packet | None]:
        """Yield packets, and None at an empty piece; raise _DamagedError where blocks end."""
        buffer, at = b"", 0
        for piece in pieces:
            if not piece:
                yield None
                continue
            buffer, at = roll(buffer, at, piece)
            size = len(buffer)
            while size - at >= 12:
                kind, length = self._head(buffer, at)
                if kind == SECTION:
                    length = self._section_length(buffer, at)
                smallest, read = self.BLOCKS.get(kind, UNKNOWN)
                if length < smallest or length % 4:
                    raise _DamagedError(
                        f"a block of type {kind:#x} claims {length} bytes; reading ended before it"
                    )
                end = at + length
                if read is None:
                    at = end  # past the buffer, if need be: the next piece is skipped as far
                    continue
                if end > size:
                    if length > MAX_BLOCK:
                        raise _DamagedError(
                            f"a block claims {length} bytes; reading ended before it"
                        )
                    break
                if self._u32(buffer, end - 4)[0] != length:
                    raise _DamagedError(
                        "the two lengths of a block differ; reading ended before it"
                    )
                packet = read(self, buffer, at + 8, end - 4)
                if packet is not None:
                    yield packet
                at = end
        if at != len(buffer):
            raise _DamagedError("it is cut off in the middle of its last block")

    def _section_length(self, buffer: bytes, at: int) -> int:
        """Take on the byte order of a section header and read its length in it."""
        order = BYTE_ORDERS.get(buffer[at + 8 : at + 12])
        if order is None:
            raise _DamagedError("a section header has no byte-order magic; reading ended before it")
        self._use_byte_order(order)
        _, length = struct.unpack_from(order + "II", buffer, at)
        return int(length)

    def _use_byte_order(self, order: str) -> None:
        self._order = order
        self._head = struct.Struct(order + "II").unpack_from
        self._u32 = struct.Struct(order + "I").unpack_from
        self._enhanced_head = struct.Struct(order + "IIII").unpack_from
        self._obsolete_head = struct.Struct(order + "H2xIII").unpack_from

    def _section_header(self, buffer: bytes, at: int, _end: int) -> None:
        (major,) = struct.unpack_from(self._order + "H", buffer, at + 4)
        if major != 1:
            raise _DamagedError(
                f"a section has the pcapng version {major}, not 1; reading ended before it"
            )
        self._section += 1
        self._interfaces = []

    def _interface_description(self, buffer: bytes, at: int, end: int) -> None:
        link_type, snap_length = struct.unpack_from(self._order + "H2xI", buffer, at)
        per_second, offset = 10**6, 0
        for code, value in self._options(buffer, at + 8, end):
            if code == 9 and len(value) == 1:  # if_tsresol
                base, exponent = (2, value[0] & 0x7F) if value[0] & 0x80 else (10, value[0])
                per_second = base**exponent
            elif code == 14 and len(value) == 8:  # if_tsoffset
                (offset,) = struct.unpack(self._order + "q", value)
        unit = Fraction(10**9, per_second)
        self._interfaces.append(
            Interface(link_type, snap_length, unit.numerator, unit.denominator, offset * 10**9)
        )

    def _interface_statistics(self, buffer: bytes, at: int, end: int) -> None:
        (interface,) = self._u32(buffer, at)
        drops = [
            int.from_bytes(value, "little" if self._order == "<" else "big")
            for code, value in self._options(buffer, at + 12, end)
            if code in {5, 7} and len(value) == 8  # isb_ifdrop, isb_osdrop
        ]
        if drops:  # counts since the capture began, so the last block of an interface stands
            self._drops[self._section, interface] = sum(drops)

    def _enhanced_packet(self, buffer: bytes, at: int, end: int) -> Packet:
        return self._packet(self._enhanced_head(buffer, at), buffer, at + 20, end)

    def _obsolete_packet(self, buffer: bytes, at: int, end: int) -> Packet:
        return self._packet(self._obsolete_head(buffer, at), buffer, at + 20, end)

    def _simple_packet(self, buffer: bytes, at: int, end: int) -> Packet:
        (length,) = self._u32(buffer, at)
        snap_length = self._interfaces[0].snap_length if self._interfaces else 0
        captured = min(length, snap_length or length, end - at - 4)
        link_type, (_, frame) = self._packet((0, 0, 0, captured), buffer, at + 4, end)
        self._timeless = True
        return link_type, (0, frame)

    def _packet(self, head: tuple[int, ...], buffer: bytes, start: int, end: int) -> Packet:
        number, high, low, captured = head
        if number >= len(self._interfaces):
            raise _DamagedError(
                f"a packet names the interface {number}, which is not described; reading ended"
            )
        if captured > end - start or captured > MAX_FRAME:
            raise _DamagedError(f"a packet claims {captured} bytes; reading ended before it")
        link_type, _, scale, per, offset = self._interfaces[number]
        return link_type, (
            (high << 32 | low) * scale // per + offset,
            buffer[start : start + captured],
        )

    def _options(self, buffer: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield (code, value) up to the end of options, or to one that is longer than the block."""
        while at + 4 <= end:
            code, length = struct.unpack_from(self._order + "HH", buffer, at)
            at += 4
            if code == 0 or at + length > end:
                return
            yield code, buffer[at : at + length]
            at += length + -length % 4

    #: The blocks that are read: bytes of the shortest, and what reads it. Any other is skipped.
    BLOCKS: ClassVar[
        dict[int, tuple[int, Callable[[PcapngReader, bytes, int, int], Packet | None]]]
    ] = {
        SECTION: (28, _section_header),
        1: (20, _interface_description),
        2: (32, _obsolete_packet),
        3: (16, _simple_packet),
        5: (24, _interface_statistics),
        6: (32, _enhanced_packet),
    }


class _DamagedError(Exception):
    """The blocks make no sense from here on; the text says why."""
