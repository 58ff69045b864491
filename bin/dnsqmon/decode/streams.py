"""TCP segments to DNS messages (RFC 7766), bounded in flows, octets and segments."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnsqmon.counters import Counters

MAX_FLOWS = 8192
MAX_OCTETS = 16 << 20
#: Segments that may wait for an earlier one before the earlier one is given up.
MAX_OUT_OF_ORDER = 16

FIN, SYN, RST = 1, 2, 4
_HEADER = 12

#: Source address, source port, destination address, destination port.
Flow = tuple[bytes, int, bytes, int]


@dataclass
class _Stream:
    """One direction of a connection."""

    next_sequence: int
    data: bytearray = field(default_factory=bytearray)
    #: Frames whose octets wait in `data`, and segments that came before their turn.
    frames: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    #: What this direction carries are responses: they are counted, not collected.
    responses: bool = False


class Streams:
    """Follows each direction of a connection and cuts it into messages.

    A direction is followed from its SYN, or else from the first segment with data, which is taken
    to begin a message; when that proves wrong the next segment is tried.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._streams: OrderedDict[Flow, _Stream] = OrderedDict()
        self._octets = 0

    def add(self, flow: Flow, sequence: int, flags: int, data: bytes) -> list[bytes] | str | None:
        """Take a segment; give the messages that it completes.

        Gives a reason of `counters.REASONS` where it is of no use, and None where it was counted
        as held. A segment that completes messages is for the caller to count.
        """
        if flags & SYN:
            self._close(flow)
            sequence = (sequence + 1) & 0xFFFFFFFF
            self._open(flow, sequence)
        outcome: list[bytes] | str | None = "tcp_empty"
        if data:
            outcome = self._take(flow, sequence, data)
        if flags & (FIN | RST):
            self._close(flow)
        return outcome

    def finish(self) -> None:
        """Count what still waits as lost: nothing more will come."""
        while self._streams:
            self._close(next(iter(self._streams)))

    def _open(self, flow: Flow, sequence: int) -> _Stream:
        while len(self._streams) >= MAX_FLOWS or (self._streams and self._octets > MAX_OCTETS):
            self._close(next(iter(self._streams)))
        stream = self._streams[flow] = _Stream(sequence)
        return stream

    def _close(self, flow: Flow) -> None:
        stream = self._streams.pop(flow, None)
        if stream:
            self._give_up(stream)

    def _give_up(self, stream: _Stream) -> None:
        """Count the frames that wait as lost, and forget their octets."""
        frames = stream.frames + len(stream.early)
        self._counters.held -= frames
        self._counters.reasons["tcp_lost"] += frames
        self._octets -= len(stream.data) + sum(map(len, stream.early.values()))
        stream.frames = 0
        stream.data.clear()
        stream.early.clear()

    def _take(self, flow: Flow, sequence: int, data: bytes) -> list[bytes] | str | None:
        """Put the segment in its place and read on from there."""
        stream = self._streams.get(flow) or self._open(flow, sequence)
        self._streams.move_to_end(flow)
        ahead = (sequence - stream.next_sequence) & 0xFFFFFFFF
        if ahead >= 1 << 31:  # it begins before what is expected: seen already, at least in part
            data = data[(1 << 32) - ahead :]
            if not data:
                return "tcp_repeated"
        elif ahead and not stream.responses:
            if len(stream.early) < MAX_OUT_OF_ORDER:
                return self._wait(stream, sequence, data)
            self._give_up(stream)  # the segment between was not captured: go on from here
            stream.next_sequence = sequence
        elif ahead:
            stream.next_sequence = sequence
        return self._read(flow, stream, data)

    def _wait(self, stream: _Stream, sequence: int, data: bytes) -> str | None:
        """Keep a segment that came before its turn."""
        if sequence in stream.early:
            return "tcp_repeated"
        stream.early[sequence] = data
        self._octets += len(data)
        self._counters.held += 1
        return None

    def _read(self, flow: Flow, stream: _Stream, data: bytes) -> list[bytes] | str | None:
        """Append the segment in its turn, and those that waited for it; cut messages off."""
        self._append(stream, data)
        stream.frames += 1
        self._counters.held += 1
        while stream.next_sequence in stream.early:
            data = stream.early.pop(stream.next_sequence)
            self._octets -= len(data)
            self._append(stream, data)
            stream.frames += 1
        if stream.responses or _is_response(stream.data):
            stream.responses = True
            return self._settle(stream, "response")
        messages = self._cut(stream)
        if messages is None:
            self._close(flow)
            self._counters.reasons["tcp_lost"] -= 1  # this very frame is for the caller to count
            return "tcp_lost"
        if not messages:
            return None
        self._counters.held -= stream.frames
        self._counters.reasons["tcp_joined"] += stream.frames - 1
        stream.frames = 0
        return messages

    def _append(self, stream: _Stream, data: bytes) -> None:
        stream.data += data
        stream.next_sequence = (stream.next_sequence + len(data)) & 0xFFFFFFFF
        self._octets += len(data)

    def _settle(self, stream: _Stream, reason: str) -> str:
        """Count all frames that wait under `reason`, the last of them by way of the caller."""
        self._counters.held -= stream.frames
        self._counters.reasons[reason] += stream.frames - 1
        self._octets -= len(stream.data)
        stream.frames = 0
        stream.data.clear()
        return reason

    def _cut(self, stream: _Stream) -> list[bytes] | None:
        """Cut whole messages off the front; None where what is there cannot be DNS."""
        messages: list[bytes] = []
        data = stream.data
        while len(data) >= 2:
            end = 2 + int.from_bytes(data[:2], "big")
            if end < 2 + _HEADER or not _is_plausible(data):
                self._octets -= len(data)
                data.clear()
                return messages or None
            if len(data) < end:
                break
            messages.append(bytes(data[2:end]))
            del data[:end]
            self._octets -= end
        return messages


def _is_response(data: bytearray) -> bool:
    """Say whether the message that begins here has its QR bit set (RFC 1035, section 4.1.1)."""
    return len(data) > 4 and bool(data[4] & 0x80)


def _is_plausible(data: bytearray) -> bool:
    """Say whether opcode and question count, where they are there, are ones that exist."""
    return (len(data) <= 4 or (data[4] >> 3 & 15) <= 6) and (len(data) <= 6 or data[6] == 0)
