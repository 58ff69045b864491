"""IP fragments to datagrams, bounded in number, octets and age."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnsqmon.core.counters import Counters
    from dnsqmon.decode.network import Datagram

MAX_DATAGRAMS = 4096
MAX_OCTETS = 8 << 20
#: RFC 8200, section 4.5, allows 60 seconds; DNS clients have given up long before.
MAX_AGE_NS = 30 * 1_000_000_000
MAX_DATAGRAM = 65535
#: A datagram of that length at the least MTU of IPv4 in use, 576, comes in 119 pieces.
MAX_PIECES = 128


@dataclass
class _Partial:
    """The fragments of one datagram that have come."""

    since_ns: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    frames: int = 0
    octets: int = 0
    #: Where the piece that lies furthest back ends.
    reach: int = 0
    #: Length of the whole datagram, known when the last fragment is there.
    length: int | None = None


class Fragments:
    """Puts fragments together and counts those that never became whole.

    A datagram with overlapping fragments that differ is dropped (RFC 5722, applied to IPv4 too):
    nothing that is sent so is an honest query.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._partials: dict[tuple[bytes, bytes, int, int], _Partial] = {}
        self._octets = 0

    def add(self, datagram: Datagram, time_ns: int) -> bytes | None:
        """Take a fragment; give the payload of the datagram it completes, else count it as held.

        The frame that completes a datagram is for the caller to count.
        """
        fragment = datagram.fragment
        if fragment is None:
            raise ValueError("not a fragment")
        self._drop_old(time_ns)
        key = (datagram.src, datagram.dst, datagram.protocol, fragment.identification)
        partial = self._partials.get(key)
        if partial is None:
            partial = self._partials[key] = _Partial(time_ns)
        partial.frames += 1
        self._counters.held += 1
        end = fragment.offset + len(datagram.payload)
        if datagram.cut or end > MAX_DATAGRAM or not self._fits(partial, datagram, end):
            self._drop(key)
            return None
        if partial.octets != partial.length:
            return None
        self._forget(key)
        self._counters.held -= partial.frames
        self._counters.reasons["fragment_joined"] += partial.frames - 1
        return b"".join(partial.pieces[offset] for offset in sorted(partial.pieces))

    def finish(self) -> None:
        """Count what still waits as lost: nothing more will come."""
        while self._partials:
            self._drop(next(iter(self._partials)))

    def _fits(self, partial: _Partial, datagram: Datagram, end: int) -> bool:
        """Add the piece; False where it cannot be one, or contradicts what is there already."""
        fragment = datagram.fragment
        offset = fragment.offset if fragment else 0
        if not datagram.payload:
            return False
        if fragment and fragment.more:
            if end % 8:
                return False
        else:
            if partial.length not in (None, end):
                return False
            partial.length = end
        if partial.pieces.get(offset) == datagram.payload:
            return True
        if len(partial.pieces) >= MAX_PIECES:
            return False
        partial.reach = max(partial.reach, end)
        if partial.length is not None and partial.reach > partial.length:
            return False
        for start, piece in partial.pieces.items():
            if offset < start + len(piece) and start < end:
                return False
        partial.pieces[offset] = datagram.payload
        partial.octets += len(datagram.payload)
        self._octets += len(datagram.payload)
        return True

    def _drop_old(self, time_ns: int) -> None:
        """Give up the oldest datagrams while there are too many, or while they are too old."""
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if (
                time_ns - oldest.since_ns <= MAX_AGE_NS
                and len(self._partials) <= MAX_DATAGRAMS
                and self._octets <= MAX_OCTETS
            ):
                return
            self._drop(key)

    def _drop(self, key: tuple[bytes, bytes, int, int]) -> None:
        frames = self._partials[key].frames
        self._forget(key)
        self._counters.held -= frames
        self._counters.reasons["fragment_lost"] += frames

    def _forget(self, key: tuple[bytes, bytes, int, int]) -> None:
        self._octets -= self._partials.pop(key).octets
