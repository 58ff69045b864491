"""A packet socket and the TPACKET_V3 ring that the kernel fills: blocks in, lists of frames out.

Structures and numbers: linux/if_packet.h and Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from typing import TYPE_CHECKING

from dnsqmon.sources.bpf import (
    ETHERNET_LIKE,
    inverse,
    reject_all,
    without_echo,
)
from dnsqmon.sources.bpf_assembler import machine_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.record import Frame
    from dnsqmon.sources.bpf_assembler import Instruction

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 1, 5, 6, 10
_TPACKET_V3 = 2
_PROMISCUOUS = 1  # PACKET_MR_PROMISC
_SO_ATTACH_FILTER = 26
_KERNEL, _USER = 0, 1  # TP_STATUS_KERNEL, TP_STATUS_USER: whose the block is

_BLOCK_OCTETS = 1 << 18  # the longest packet (65,535 octets) fits

_BLOCK = struct.Struct("8xIIII")  # block_status, num_pkts, offset_to_first_pkt, blk_len
_BLOCK_STATUS = struct.Struct("8xI")
#: tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_mac, tp_net; then of the `struct sockaddr_ll`
#: at 48: sll_protocol, sll_ifindex, sll_hatype, sll_pkttype.
_FRAME = struct.Struct("IIII8xHH22x2siHB")
_NO_ADDRESSES = bytes(12)


class Ring:
    """One packet socket with its ring; what it receives is counted from `bind` on.

    `once` leaves out the copies of a packet that other interfaces show (see `_Sightings`).
    Opening needs CAP_NET_RAW (else PermissionError); nothing later does.
    """

    def __init__(
        self, program: Sequence[Instruction], megabytes: int, block_ms: int, *, once: bool
    ) -> None:
        self.filtered = 0  # did not pass the filter
        self.captured = 0  # passed it, by the kernel's count
        self.dropped = 0  # of those, found the ring full
        self.read = 0  # of those, handed on or left out as copies
        self.freezes = 0  # times the ring was found full
        self._sightings = _Sightings() if once else None
        self._offset = 0
        # Protocol 0: a socket receives nothing before it has a filter, a ring and an interface.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        # A second one takes the rest and is never read: the kernel soon finds it full, and counts.
        self._rest = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._rest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            _attach(self._rest, without_echo(inverse(program)))
            self.socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            _attach(self.socket, without_echo(program))
            size = megabytes << 20
            blocks = size // _BLOCK_OCTETS
            # TPACKET_V3 checks the size and number of frames, but packs frames as they come.
            request = struct.pack(
                "7I", _BLOCK_OCTETS, blocks, _BLOCK_OCTETS, blocks, block_ms, 0, 0
            )
            self.socket.setsockopt(_SOL_PACKET, _RX_RING, request)
            self._memory = mmap.mmap(self.socket.fileno(), size)
        except BaseException:
            self.socket.close()
            self._rest.close()
            raise

    @property
    def duplicates(self) -> int:
        """Copies left out."""
        return self._sightings.duplicates if self._sightings else 0

    @property
    def waiting(self) -> int:
        """Packets in the ring that were not read yet."""
        return self.captured - self.dropped - self.read

    def bind(self, index: int) -> None:
        """Receive from the interface with this index, or from all (0). OSError if there is none.

        Through the C library, because `socket.bind` wants a name, and there is none for all.
        """
        for sock in (self.socket, self._rest):
            address = struct.pack("HHi12x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index)
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.bind(sock.fileno(), address, len(address)):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    def make_promiscuous(self, index: int) -> None:
        """Ask for packets to other stations, until the socket is closed or the interface gone."""
        request = struct.pack("iHH8x", index, _PROMISCUOUS, 0)
        self.socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)

    def read_block(self) -> list[Frame] | None:
        """Take the next block of frames, as LINKTYPE_ETHERNET; None if the kernel has it still.

        A packet of an interface without Ethernet headers gets one without addresses.
        The block is copied and given back at once. No barrier is needed between the look at the
        status and the copy: the interpreter puts thousands of instructions between them.
        """
        status, count, first, length = _BLOCK.unpack_from(self._memory, self._offset)
        if not status & _USER:
            return None
        block = self._memory[self._offset : self._offset + length]
        _BLOCK_STATUS.pack_into(self._memory, self._offset, _KERNEL)
        self._offset = (self._offset + _BLOCK_OCTETS) % len(self._memory)
        self.read += count
        frames = _frames(block, first, count)
        if self._sightings:
            return self._sightings.without_copies(frames, _places(block, first, count))
        return frames

    def read_statistics(self) -> None:
        """Add what the kernel counted since the last time; reading sets its counters to zero."""
        if self.socket.fileno() < 0:
            return
        counts = self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        captured, dropped, freezes = struct.unpack("III", counts)
        self.captured += captured
        self.filtered += struct.unpack("II", self._rest.getsockopt(_SOL_PACKET, _STATISTICS, 8))[0]
        self.dropped += dropped
        self.freezes += freezes

    def shut(self) -> None:
        """Let nothing more into the ring."""
        _attach(self.socket, reject_all())
        _attach(self._rest, reject_all())

    def close(self) -> None:
        """Unmap the ring and close the socket; the counts stay."""
        self._memory.close()
        self.socket.close()
        self._rest.close()


def _attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    code = machine_code(program)
    array = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions, and where they are.
    request = struct.pack("HP", len(program), ctypes.addressof(array))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)


def _frames(block: bytes, offset: int, count: int) -> list[Frame]:
    frames = []
    unpack = _FRAME.unpack_from
    for _ in range(count):
        step, seconds, nanoseconds, length, link, network, ether_type, _, kind, _ = unpack(
            block, offset
        )
        end = offset + link + length
        if kind in ETHERNET_LIKE:
            frame = block[offset + link : end]
        else:
            frame = _NO_ADDRESSES + ether_type + block[offset + network : end]
        frames.append((seconds * 1_000_000_000 + nanoseconds, frame))
        offset += step
    return frames


def _places(block: bytes, offset: int, count: int) -> list[tuple[int, int]]:
    """Return the interface and the direction of each frame of a block."""
    places = []
    for _ in range(count):
        step, *_, index, _, packet_type = _FRAME.unpack_from(block, offset)
        places.append((index, packet_type))
        offset += step
    return places


class _Sightings:
    """What tells a packet from its copies, where all interfaces are watched at once.

    A packet that is bridged, routed, or carried by a virtual interface on top of another is shown
    by each interface it passes. A copy is the same packet, but for its link header and hop limit,
    at another place (interface and direction), within this block and the one before; the same
    packet at the same place was sent twice, and counts twice. What address translation changed is
    another packet.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._places_before: dict[bytes, tuple[int, int]] = {}

    def without_copies(self, frames: list[Frame], places: list[tuple[int, int]]) -> list[Frame]:
        """Leave out the copies from the frames of a block, whose places are given."""
        before = self._places_before
        first_places: dict[bytes, tuple[int, int]] = {}
        originals = []
        for frame, place in zip(frames, places):
            # Left out: link addresses, IPv6 hop limit (octet 21), IPv4 hop limit and checksum
            # (octets 22 to 25).
            identity = frame[1][12:21] + frame[1][26:]
            first_place = first_places.get(identity) or before.get(identity) or place
            first_places[identity] = first_place
            if first_place == place:
                originals.append(frame)
        self.duplicates += len(frames) - len(originals)
        self._places_before = first_places
        return originals
