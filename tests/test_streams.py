"""Proof of the TCP streams: messages out of segments, however they come, each accounted for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craft import dns_query, dns_response, framed
from dnsqmon.core.counters import REASONS, Counters
from dnsqmon.decode import streams
from dnsqmon.decode.streams import FIN, RST, SYN, Flow, Streams

FLOW: Flow = (b"from", 4242, b"to", 53)
BACK: Flow = (b"to", 53, b"from", 4242)
ONE, TWO, THREE = dns_query("one.example"), dns_query("two.example"), dns_query("three.example")
FRAMED = framed(ONE)


class Following:
    """Streams with their counters, checked after each step; sequence numbers begin at 1,000."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.streams = Streams(self.counters)

    def add(
        self, sequence: int, data: bytes = b"", flags: int = 0, flow: Flow = FLOW, *,
        to_client: bool = False,
    ) -> list[bytes] | str | None:  # fmt: skip
        """Add a segment as the decoder does, with each message counted as a record."""
        self.counters.packets += 1
        outcome = self.streams.add(
            flow, (1000 + sequence) & 0xFFFFFFFF, flags, data, to_client=to_client
        )
        if isinstance(outcome, list):
            assert outcome
            self.counters.pipelined += len(outcome) - 1
            self.counters.records += len(outcome)
        elif outcome:
            self.counters.reasons[outcome] += 1
        assert self.counters.adds_up()
        assert self.counters.held >= 0
        return outcome

    def finish(self) -> dict[str, int]:
        """Come to the end; give what was counted."""
        self.streams.finish()
        assert self.counters.adds_up()
        assert self.counters.held == 0
        assert self.streams._octets == 0  # noqa: SLF001 - the bound must come back to nothing
        assert set(self.counters.reasons) <= set(REASONS)
        return dict(+self.counters.reasons)


@pytest.fixture(name="tcp")
def _tcp() -> Following:
    return Following()


def test_a_message_in_a_segment(tcp: Following) -> None:
    """SYN, a message, FIN: one message, and two segments without data."""
    assert tcp.add(-1, flags=SYN) == "tcp_empty"
    assert tcp.add(0, FRAMED) == [ONE]
    assert tcp.add(len(FRAMED), flags=FIN) == "tcp_empty"
    assert tcp.finish() == {"tcp_empty": 2}


@pytest.mark.parametrize("syn", [True, False], ids=["syn", "no-syn"])
@pytest.mark.parametrize("at", range(1, len(FRAMED)))
def test_a_message_split_anywhere(tcp: Following, at: int, syn: bool) -> None:
    """The length alone, half a length, half a header: with its rest it is whole."""
    if syn:
        tcp.add(-1, flags=SYN)
    assert tcp.add(0, FRAMED[:at]) is None
    assert tcp.counters.held == 1
    assert tcp.add(at, FRAMED[at:]) == [ONE]
    assert tcp.finish() == {"tcp_joined": 1, **({"tcp_empty": 1} if syn else {})}


def test_octet_by_octet(tcp: Following) -> None:
    """A message in as many segments as octets is whole with the last."""
    outcomes = [tcp.add(at, FRAMED[at : at + 1]) for at in range(len(FRAMED))]
    assert outcomes == [None] * (len(FRAMED) - 1) + [[ONE]]
    assert tcp.finish() == {"tcp_joined": len(FRAMED) - 1}


def test_several_messages_in_a_segment(tcp: Following) -> None:
    """All whole messages come with their segment, the rest with the next."""
    data = FRAMED + framed(TWO) + framed(THREE)
    assert tcp.add(0, data[:-5]) == [ONE, TWO]
    assert tcp.add(len(data) - 5, data[-5:]) == [THREE]
    assert tcp.finish() == {}


def test_sequence_numbers_wrap(tcp: Following) -> None:
    """A message across the end of the sequence space is whole."""
    start = (1 << 32) - 1000 - 10
    tcp.add(start - 1, flags=SYN)
    assert tcp.add(start, FRAMED[:20]) is None
    assert tcp.add(start + 20, FRAMED[20:]) == [ONE]


def test_data_in_the_syn(tcp: Following) -> None:
    """TCP Fast Open carries a message in the SYN (RFC 7413)."""
    assert tcp.add(-1, FRAMED, SYN) == [ONE]
    assert tcp.add(len(FRAMED), framed(TWO)) == [TWO]


def test_retransmission(tcp: Following) -> None:
    """What was seen is counted as repeated, and what a segment adds to it is read."""
    data = FRAMED + framed(TWO)
    assert tcp.add(0, data[:20]) is None
    assert tcp.add(0, data[:20]) == "tcp_repeated"
    assert tcp.add(5, data[5:15]) == "tcp_repeated"
    assert tcp.add(10, data[10 : len(FRAMED)]) == [ONE]
    assert tcp.add(0, data) == [TWO]
    assert tcp.add(0, data) == "tcp_repeated"
    assert tcp.finish() == {"tcp_repeated": 3, "tcp_joined": 1}


def test_keep_alive(tcp: Following) -> None:
    """A keep-alive probe, an octet before what is expected, is a repetition."""
    tcp.add(0, FRAMED)
    assert tcp.add(len(FRAMED) - 1, b"\0") == "tcp_repeated"
    assert tcp.add(len(FRAMED), framed(TWO)) == [TWO]


DATA = FRAMED + framed(TWO) + framed(THREE)
CUTS = [0, 7, 40, 60, len(DATA)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_segments_in_every_order(tcp: Following, order: tuple[int, ...]) -> None:
    """After a SYN, segments in any order give all messages in theirs."""
    tcp.add(-1, flags=SYN)
    found: list[bytes] = []
    for index in order:
        outcome = tcp.add(CUTS[index], DATA[CUTS[index] : CUTS[index + 1]])
        found += outcome if isinstance(outcome, list) else []
    assert found == [ONE, TWO, THREE]
    assert tcp.counters.held == 0


def test_a_segment_twice_before_its_turn(tcp: Following) -> None:
    """A segment that waits already is a repetition."""
    tcp.add(-1, flags=SYN)
    assert tcp.add(20, FRAMED[20:]) is None
    assert tcp.add(20, FRAMED[20:]) == "tcp_repeated"
    assert tcp.add(0, FRAMED[:20]) == [ONE]


def test_a_lost_segment(tcp: Following) -> None:
    """When too many wait for one that never comes, all that wait are read, in order."""
    tcp.add(-1, flags=SYN)
    assert tcp.add(0, FRAMED[:20]) is None
    size = len(FRAMED)
    for number in range(1, streams.MAX_OUT_OF_ORDER + 1):
        assert tcp.add(number * size, FRAMED) is None
    assert tcp.add(17 * size, FRAMED) == [ONE] * 17
    assert tcp.add(18 * size, FRAMED) == [ONE]
    assert tcp.finish() == {"tcp_empty": 1, "tcp_lost": 1, "tcp_joined": 16}


def test_two_lost_segments(tcp: Following) -> None:
    """Behind a first gap a second one may be waited for."""
    size = len(FRAMED)
    tcp.add(-1, flags=SYN)
    for number in range(1, 9):
        assert tcp.add(number * size, FRAMED) is None
    for number in range(10, 18):
        assert tcp.add(number * size, FRAMED) is None
    assert tcp.add(18 * size, FRAMED) == [ONE] * 8
    assert tcp.counters.held == 9
    assert tcp.add(9 * size, FRAMED) == [ONE] * 10
    assert tcp.finish() == {"tcp_empty": 1, "tcp_joined": 16}


def test_garbage_then_a_message(tcp: Following) -> None:
    """What cannot be DNS is lost, and the next segment is tried afresh."""
    assert tcp.add(0, b"GET / HTTP/1.1\r\n\r\n") == "tcp_lost"
    assert tcp.add(18, FRAMED) == [ONE]
    assert tcp.add(18 + len(FRAMED), framed(TWO) + b"\0\0\0\0") == [TWO]
    assert tcp.finish() == {"tcp_lost": 1}


def test_capture_that_begins_in_a_message(tcp: Following) -> None:
    """The rest of a message is no message; the one behind it is read."""
    assert tcp.add(0, FRAMED[12:]) == "tcp_lost"
    assert tcp.add(len(FRAMED) - 12, framed(TWO)) == [TWO]


def test_fin_with_data(tcp: Following) -> None:
    """The last message may come with the FIN; half a message then is lost."""
    assert tcp.add(0, FRAMED, FIN) == [ONE]
    assert tcp.add(5000, FRAMED[:20], FIN) is None
    assert tcp.counters.held == 0
    assert tcp.finish() == {"tcp_lost": 1}


def test_fin_before_its_turn(tcp: Following) -> None:
    """A FIN that overtakes a segment does not close what the segment completes."""
    tcp.add(-1, flags=SYN)
    assert tcp.add(20, FRAMED[20:], FIN) is None
    assert tcp.add(0, FRAMED[:20]) == [ONE]


@pytest.mark.parametrize("flags", [RST, RST | FIN])
def test_reset(tcp: Following, flags: int) -> None:
    """A reset ends a connection, whatever waits."""
    tcp.add(-1, flags=SYN)
    tcp.add(0, FRAMED[:20])
    tcp.add(25, FRAMED[25:])
    assert tcp.add(20, flags=flags) == "tcp_empty"
    assert tcp.counters.held == 0
    assert tcp.finish() == {"tcp_empty": 2, "tcp_lost": 2}


def test_a_port_used_again(tcp: Following) -> None:
    """A SYN begins anew; without one, so does a sequence number far from what is expected."""
    tcp.add(0, FRAMED)
    assert tcp.add(70_000, flags=SYN) == "tcp_empty"
    assert tcp.add(70_001, framed(TWO)) == [TWO]
    assert tcp.add(70_001 + streams.MAX_DISTANCE * 3, framed(THREE)) == [THREE]
    assert tcp.add(70_001 - streams.MAX_DISTANCE * 3, FRAMED) == [ONE]


def test_responses(tcp: Following) -> None:
    """What a server sends is counted as responses, gaps and all; nothing is collected."""
    response = framed(dns_response(ONE, (16, b"x" * 3000)))
    assert tcp.add(0, response[:1400], flow=BACK, to_client=True) == "response"
    assert tcp.add(2800, response[2800:], flow=BACK, to_client=True) == "response"
    assert tcp.add(1400, response[1400:2800], flow=BACK, to_client=True) == "tcp_repeated"
    assert tcp.counters.held == 0
    assert tcp.finish() == {"response": 2, "tcp_repeated": 1}


def test_length_of_a_response_alone(tcp: Following) -> None:
    """A length in a segment of its own waits until the header shows a response."""
    response = framed(dns_response(ONE))
    assert tcp.add(0, response[:2], flow=BACK, to_client=True) is None
    assert tcp.add(2, response[2:], flow=BACK, to_client=True) == "response"
    assert tcp.finish() == {"response": 2}


def test_a_client_cannot_hide_behind_a_response(tcp: Following) -> None:
    """A client that sends a response first is read on: its queries count."""
    response = dns_response(ONE)
    assert tcp.add(0, framed(response)) == [response]
    assert tcp.add(len(response) + 2, FRAMED) == [ONE]


def test_bounded_in_flows(tcp: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_FLOWS the one that was silent longest is lost."""
    monkeypatch.setattr(streams, "MAX_FLOWS", 3)
    flows: list[Flow] = [(b"from", port, b"to", 53) for port in range(10)]
    for flow in flows:
        assert tcp.add(0, FRAMED[:20], flow=flow) is None
        assert tcp.counters.held <= 3
    assert tcp.add(20, FRAMED[20:], flow=flows[7]) == [ONE]
    assert tcp.add(20, FRAMED[20:], flow=flows[0]) == "tcp_lost"
    assert tcp.finish() == {"tcp_joined": 1, "tcp_lost": 10}


def test_bounded_in_octets(tcp: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_OCTETS the one that was silent longest is lost, also without a new flow."""
    monkeypatch.setattr(streams, "MAX_OCTETS", 1000)
    flows: list[Flow] = [(b"from", port, b"to", 53) for port in range(4)]
    message = framed(dns_query(raw=bytes(3000)))
    for at, flow in itertools.product(range(0, 2000, 100), flows):
        tcp.add(at, message[at : at + 100], flow=flow)
        assert tcp.streams._octets <= 1100  # noqa: SLF001 - the bound and one segment
    tcp.finish()


SEGMENTS = st.lists(
    st.tuples(
        st.integers(0, len(DATA)), st.integers(0, len(DATA)), st.integers(0, 7), st.booleans(),
        st.integers(0, 20),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(SEGMENTS)
def test_any_segments_add_up(segments: list[tuple[int, int, int, bool, int]]) -> None:
    """Whatever comes in whatever order: each segment is accounted for at every step."""
    tcp = Following()
    for start, size, flags, to_client, lie in segments:
        data = DATA[start : start + size]
        flow = BACK if to_client else FLOW
        tcp.add(start + (lie == 0) * 7, data, flags, flow, to_client=to_client)
    tcp.finish()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(-5, 60))
def test_any_octets_add_up(parts: list[bytes], step: int) -> None:
    """Octets that are no DNS at all, in and out of order, are accounted for as well."""
    tcp = Following()
    for number, data in enumerate(parts):
        tcp.add(number * step, data)
    tcp.finish()
