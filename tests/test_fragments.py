"""Proof of the reassembly: in any order, bounded, each fragment accounted for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsqmon.core.counters import Counters
from dnsqmon.decode import fragments
from dnsqmon.decode.fragments import Fragments
from dnsqmon.decode.network import Datagram, Fragment

WHOLE = bytes(range(100))
SECOND = 1_000_000_000


def piece(
    start: int, end: int, *, more: bool | None = None, ident: int = 1, cut: bool = False,
    data: bytes = WHOLE,
) -> Datagram:  # fmt: skip
    """Make the fragment of WHOLE from `start` to `end`."""
    last = end >= len(data) if more is None else not more
    fragment = Fragment(ident, start, not last)
    return Datagram(b"from", b"to", 17, data[start:end], cut, fragment)


class Joining:
    """Fragments with their counters, checked after each step."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.fragments = Fragments(self.counters)

    def add(self, datagram: Datagram, time_ns: int = 0) -> bytes | None:
        """Add a fragment as the decoder does; a completed datagram is counted as a record."""
        self.counters.packets += 1
        whole = self.fragments.add(datagram, time_ns)
        self.counters.records += whole is not None
        assert self.counters.adds_up()
        return whole

    def finish(self) -> dict[str, int]:
        """Come to the end; give what was counted."""
        self.fragments.finish()
        assert self.counters.adds_up()
        assert self.counters.held == 0
        assert self.fragments._octets == 0  # noqa: SLF001 - the bound must come back to nothing
        return dict(+self.counters.reasons)


PIECES = [(0, 24), (24, 32), (32, 80), (80, 100)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order(order: tuple[int, ...]) -> None:
    """Fragments in any order give the datagram with the last to come, and no sooner."""
    joining = Joining()
    results = [joining.add(piece(*PIECES[index])) for index in order]
    assert results == [None, None, None, WHOLE]
    assert joining.finish() == {"fragment_joined": 3}


def test_duplicates() -> None:
    """A fragment that comes twice does no harm."""
    joining = Joining()
    results = [joining.add(piece(*PIECES[index])) for index in (0, 0, 1, 2, 1, 3)]
    assert results == [None] * 5 + [WHOLE]
    assert joining.finish() == {"fragment_joined": 5}


def test_two_datagrams_at_once() -> None:
    """Fragments of different identifications, protocols or addresses do not mix."""
    joining = Joining()
    other = WHOLE[::-1]
    assert joining.add(piece(0, 48)) is None
    assert joining.add(piece(0, 48, ident=2, data=other)) is None
    assert joining.add(piece(48, 100)._replace(protocol=6)) is None
    assert joining.add(piece(48, 100)._replace(src=b"else")) is None
    assert joining.add(piece(48, 100, ident=2, data=other)) == other
    assert joining.add(piece(48, 100)) == WHOLE
    assert joining.finish() == {"fragment_joined": 2, "fragment_lost": 2}


CONTRADICTIONS = {
    "overlap": [piece(0, 24), piece(16, 40, more=True)],
    "overlap from before": [piece(16, 40, more=True), piece(0, 24)],
    "other octets in the same place": [piece(0, 24), piece(0, 24, data=WHOLE[::-1])],
    "same place, another length": [piece(0, 24), piece(0, 32)],
    "two ends": [piece(80, 100), piece(80, 96, more=False)],
    "behind the end": [piece(80, 100), piece(104, 112, more=True, data=bytes(200))],
    "end before what is there": [piece(16, 24), piece(0, 8, more=False)],
    "no octets": [piece(0, 0, more=True)],
    "not a multiple of eight": [piece(0, 20, more=True)],
    "over 65,535 octets": [piece(0, 100)._replace(fragment=Fragment(1, 65528, True))],
    "cut by the snap length": [piece(0, 24, cut=True)],
}


@pytest.mark.parametrize("pieces", list(CONTRADICTIONS.values()), ids=list(CONTRADICTIONS))
def test_contradictions(pieces: list[Datagram]) -> None:
    """Fragments that cannot be those of one datagram are dropped, all of them."""
    joining = Joining()
    assert [joining.add(datagram) for datagram in pieces] == [None] * len(pieces)
    assert joining.counters.held == 0
    assert joining.finish() == {"fragment_lost": len(pieces)}


def test_a_hole() -> None:
    """A datagram with a hole is never given, and its fragments are counted as lost."""
    joining = Joining()
    assert [joining.add(piece(*PIECES[index])) for index in (0, 1, 3)] == [None] * 3
    assert joining.finish() == {"fragment_lost": 3}


def test_age() -> None:
    """What is not whole after MAX_AGE_NS is lost; a late fragment starts anew."""
    joining = Joining()
    joining.add(piece(0, 48), 0)
    joining.add(piece(0, 48, ident=2), fragments.MAX_AGE_NS)
    assert joining.add(piece(48, 100), fragments.MAX_AGE_NS + 1) is None
    assert joining.counters.reasons["fragment_lost"] == 1
    assert joining.add(piece(48, 100, ident=2), 2 * fragments.MAX_AGE_NS) == WHOLE
    assert joining.finish() == {"fragment_joined": 1, "fragment_lost": 2}


def test_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_DATAGRAMS the oldest are lost, and the newest can still be joined."""
    monkeypatch.setattr(fragments, "MAX_DATAGRAMS", 3)
    joining = Joining()
    for ident in range(20):
        joining.add(piece(0, 48, ident=ident))
        assert joining.counters.held <= 4
    assert joining.add(piece(48, 100, ident=19)) == WHOLE
    assert joining.add(piece(48, 100, ident=0)) is None
    assert joining.finish() == {"fragment_joined": 1, "fragment_lost": 20}


def test_bounded_in_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_OCTETS the oldest are lost."""
    monkeypatch.setattr(fragments, "MAX_OCTETS", 200)
    joining = Joining()
    for ident in range(20):
        joining.add(piece(0, 48, ident=ident))
        assert joining.fragments._octets <= 248  # noqa: SLF001 - the bound and one fragment
    assert joining.finish() == {"fragment_lost": 20}


def test_bounded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram in more than MAX_PIECES is given up: looking each up costs time."""
    monkeypatch.setattr(fragments, "MAX_PIECES", 4)
    joining = Joining()
    for start in range(0, 40, 8):
        assert joining.add(piece(start, start + 8)) is None
    assert joining.counters.held == 0
    assert joining.finish() == {"fragment_lost": 5}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12), st.integers(0, 40), st.booleans(), st.integers(1, 2), st.booleans(),
            st.integers(0, 40 * SECOND),
        ),
        max_size=20,
    )
)  # fmt: skip
def test_any_fragments_add_up(parts: list[tuple[int, int, bool, int, bool, int]]) -> None:
    """Whatever fragments come: each is accounted for at every step, and no datagram is made up."""
    joining = Joining()
    for start, size, more, ident, cut, time_ns in parts:
        whole = joining.add(
            piece(start * 8, start * 8 + size, more=more, ident=ident, cut=cut), time_ns
        )
        assert whole is None or WHOLE.startswith(whole)
    joining.finish()
