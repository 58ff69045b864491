"""TCP segments to DNS messages (RFC 7766), bounded in flows, octets and segments."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnsqmon.core.counters import Counters

MAX_FLOWS = 8192
MAX_OCTETS = 16 << 20
#: Segments that may wait for an earlier one before the earlier one is given up.
MAX_OUT_OF_ORDER = 16
#: Octets off what is expected from which a segment belongs to another connection, unseen so far.
MAX_DISTANCE = 1 << 24

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

    def add(
        self, flow: Flow, sequence: int, flags: int, data: bytes, *, to_client: bool = False
    ) -> list[bytes] | str | None:
        """Take a segment; give the messages that it completes.

        With `to_client` a direction that begins with a response is taken to carry nothing else. A
        client is not: it could hide its queries behind one response of its own making.

        Gives a reason of `counters.REASONS` where it is of no use, and None where it was counted
        as held. A segment that completes messages is for the caller to count.
        """
        if flags & SYN:
            self._close(flow)
            sequence = (sequence + 1) & 0xFFFFFFFF
            self._open(flow, sequence)
        outcome: list[bytes] | str | None = "tcp_empty"
        if data:
            outcome = self._take(flow, sequence, data, to_client=to_client)
        stream = self._streams.get(flow)
        if stream and flags & (FIN | RST) and (flags & RST or not stream.early):
            self._close(flow)
        return outcome

    def finish(self) -> None:
        """Count what still waits as lost: nothing more will come."""
        while self._streams:
            self._close(next(iter(self._streams)))

    def _open(self, flow: Flow, sequence: int) -> _Stream:
        while len(self._streams) >= MAX_FLOWS:
            self._close(next(iter(self._streams)))
        stream = self._streams[flow] = _Stream(sequence)
        return stream

    def _close(self, flow: Flow) -> None:
        stream = self._streams.pop(flow, None)
        if stream:
            self._give_up(stream)

    def _give_up(self, stream: _Stream) -> None:
        """Count all frames that wait as lost, and forget their octets."""
        self._settle(stream, "tcp_lost")
        self._counters.held -= len(stream.early)
        self._counters.reasons["tcp_lost"] += len(stream.early)
        self._octets -= sum(map(len, stream.early.values()))
        stream.early.clear()

    def _take(
        self, flow: Flow, sequence: int, data: bytes, *, to_client: bool
    ) -> list[bytes] | str | None:
        """Put the segment in its place and read on from there."""
        while self._octets > MAX_OCTETS:
            self._close(next(iter(self._streams)))
        stream = self._streams.get(flow)
        if stream and abs(_distance(stream.next_sequence, sequence)) > MAX_DISTANCE:
            self._close(flow)
            stream = None
        stream = stream or self._open(flow, sequence)
        self._streams.move_to_end(flow)
        ahead = _distance(stream.next_sequence, sequence)
        if ahead < 0:  # it begins before what is expected: seen already, at least in part
            data = data[-ahead:]
            if not data:
                return "tcp_repeated"
        elif ahead and stream.responses:
            stream.next_sequence = sequence
        elif ahead:
            if sequence in stream.early:
                return "tcp_repeated"
            self._wait(stream, sequence, data)
            if len(stream.early) <= MAX_OUT_OF_ORDER:
                return None
            data = self._skip_gap(stream)
        return self._read(flow, stream, data, to_client=to_client)

    def _wait(self, stream: _Stream, sequence: int, data: bytes) -> None:
        """Keep a segment that came before its turn."""
        stream.early[sequence] = data
        self._octets += len(data)
        self._counters.held += 1

    def _skip_gap(self, stream: _Stream) -> bytes:
        """Give up the segment that was not captured; take the nearest of those that wait."""
        self._settle(stream, "tcp_lost")
        nearest = min(stream.early, key=lambda early: _distance(stream.next_sequence, early))
        stream.next_sequence = nearest
        data = stream.early.pop(nearest)
        self._octets -= len(data)
        self._counters.held -= 1  # as many frames wait as before: this very one stands for it
        return data

    def _read(
        self, flow: Flow, stream: _Stream, data: bytes, *, to_client: bool
    ) -> list[bytes] | str | None:
        """Append the segment in its turn, and those that waited for it; cut messages off."""
        self._append(stream, data)
        stream.frames += 1
        self._counters.held += 1
        while stream.next_sequence in stream.early:
            data = stream.early.pop(stream.next_sequence)
            self._octets -= len(data)
            self._append(stream, data)
            stream.frames += 1
        if stream.responses or (to_client and _is_response(stream.data)):
            stream.responses = True
            self._settle(stream, "response")
            self._counters.reasons["response"] -= 1  # this very frame is for the caller to count
            return "response"
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

    def _settle(self, stream: _Stream, reason: str) -> None:
        """Count all frames whose octets wait in `data` under `reason`, and forget the octets."""
        self._counters.held -= stream.frames
        self._counters.reasons[reason] += stream.frames
        self._octets -= len(stream.data)
        stream.frames = 0
        stream.data.clear()

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


def _distance(expected: int, sequence: int) -> int:
    """Octets from `expected` on to `sequence`, modulo 2^32; negative where it lies before."""
    return ((sequence - expected + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def _is_response(data: bytearray) -> bool:
    """Say whether the message that begins here has its QR bit set (RFC 1035, section 4.1.1)."""
    return len(data) > 4 and bool(data[4] & 0x80)


def _is_plausible(data: bytearray) -> bool:
    """Say whether opcode and question count, where they are there, are ones that exist."""
    return (len(data) <= 4 or (data[4] >> 3 & 15) <= 6) and (len(data) <= 6 or data[6] == 0)
