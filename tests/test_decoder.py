"""Proof of the decoder: each kind of frame whole, cut and with a trailer; both ways agree."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import craft
from dnsqmon.core.counters import REASONS, Counters
from dnsqmon.core.record import FrameBatch
from dnsqmon.core.record_types import ALL_TYPES
from dnsqmon.decode.decoder import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnsqmon.core.record import Query

A4, B4, A6, B6 = "192.0.2.5", "192.0.2.53", "2001:db8::5", "2001:db8::53"
NAME = "www.example.com"
#: The link types that have a quick way, and what wraps a packet in each.
QUICK_LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "ethernet": (1, craft.ethernet),
    "vlan": (1, lambda packet: craft.vlan(craft.ethernet(packet))),
    "qinq": (1, lambda packet: craft.vlan(craft.vlan(craft.ethernet(packet)), tpid=0x88A8)),
    "sll": (113, craft.sll),
    "sll2": (276, craft.sll2),
}


def packet4(message: bytes, *, sport: int = 4242, dport: int = 53, **options: object) -> bytes:
    """Build an IPv4 UDP packet; options go to the IP header."""
    return craft.ipv4(A4, B4, craft.UDP, craft.udp(sport, dport, message), **options)  # type: ignore[arg-type]


def packet6(message: bytes, *, sport: int = 4242, dport: int = 53, **options: object) -> bytes:
    """Build an IPv6 UDP packet; options go to the IP header."""
    return craft.ipv6(A6, B6, craft.UDP, craft.udp(sport, dport, message), **options)  # type: ignore[arg-type]


def segment(payload: bytes, *, seq: int = 1, flags: int = craft.ACK | craft.PSH) -> bytes:
    """Build a TCP packet to the DNS port."""
    return craft.ipv4(A4, B4, craft.TCP, craft.tcp(4242, 53, seq, flags, payload))


QUERY = craft.dns_query(NAME)
LONG = [b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61]  # 255 octets on the wire
#: A packet, and the name it asks for or, in brackets, the reason that it is counted under.
PACKETS: dict[str, tuple[bytes, str]] = {
    "query over IPv4": (packet4(QUERY), NAME),
    "query over IPv6": (packet6(QUERY), NAME),
    "EDNS": (packet4(craft.dns_query(NAME, edns=1232)), NAME),
    "AAAA": (packet6(craft.dns_query(NAME, 28)), NAME),
    "another class": (packet4(craft.dns_query(NAME, qclass=3)), NAME),
    "another type": (packet4(craft.dns_query(NAME, 15)), "<other_type>"),
    "query from port 53": (packet4(QUERY, sport=53, dport=53), NAME),
    "reply port as destination": (packet4(QUERY, sport=53, dport=4242), NAME),
    "another port": (packet4(QUERY, dport=5300), "<other_port>"),
    "response": (packet4(craft.dns_response(QUERY, (1, bytes(4)))), "<response>"),
    "response over IPv6": (packet6(craft.dns_response(QUERY)), "<response>"),
    "opcode 1": (packet6(craft.dns_query(NAME, flags=0x0800)), "<other_opcode>"),
    "opcode 5": (packet4(craft.dns_query(NAME, flags=0x2800)), "<other_opcode>"),
    "opcode 15": (packet4(craft.dns_query(NAME, flags=0x7800)), "<other_opcode>"),
    "all other flags": (packet4(craft.dns_query(NAME, flags=0x07FF)), NAME),
    "no question": (packet4(craft.dns_query(NAME, qdcount=0)), "<no_question>"),
    "two questions": (packet4(craft.dns_query(NAME, qdcount=2, raw=QUERY[12:])), NAME),
    "root": (packet4(craft.dns_query(b"\0", 28)), "."),
    "root over IPv6": (packet6(craft.dns_query(b"\0", 28)), "."),
    "upper case": (packet4(craft.dns_query("WWW.ExAmPlE.CoM")), NAME),
    "255 octets": (packet4(craft.dns_query(LONG)), ".".join(label.decode() for label in LONG)),
    "256 octets": (packet4(craft.dns_query([*LONG[:3], b"d" * 62])), "<bad_name>"),
    "255 octets in short labels": (
        packet4(craft.dns_query([*[b"x" * 31] * 7, b"y" * 29])), ("x" * 31 + ".") * 7 + "y" * 29,
    ),
    "256 octets in short labels": (
        packet4(craft.dns_query([*[b"x" * 31] * 7, b"y" * 30])), "<bad_name>",
    ),
    "257 octets": (packet6(craft.dns_query([*LONG[:3], b"d" * 63])), "<bad_name>"),
    "127 labels": (packet4(craft.dns_query([b"x"] * 127)), ".".join("x" * 127)),
    "128 labels": (packet4(craft.dns_query([b"x"] * 128)), "<bad_name>"),
    "label of 32": (packet4(craft.dns_query([b"a", b"b" * 32])), "a." + "b" * 32),
    "label of 33": (packet4(craft.dns_query([b"a", b"b" * 33])), "a." + "b" * 33),
    "label of 45, a hyphen": (packet4(craft.dns_query([b"a", b"b" * 45])), "a." + "b" * 45),
    "label of 48, a digit": (packet4(craft.dns_query([b"a", b"b" * 48])), "a." + "b" * 48),
    "first label of 63": (packet4(craft.dns_query([b"b" * 63, b"c"])), "b" * 63 + ".c"),
    "long label whose control octet makes up for the dot": (
        packet4(craft.dns_query([b"a", b"x" * 20 + b"\5" + b"y" * 27])),
        "a." + "x" * 20 + "\\005" + "y" * 27,
    ),
    "the same in the first label": (
        packet6(craft.dns_query([b"x" * 20 + b"\5" + b"y" * 27, b"z" * 48])),
        "x" * 20 + "\\005" + "y" * 27 + "." + "z" * 48,
    ),
    "dot in a label": (packet4(craft.dns_query([b"a.b", b"c"])), "a\\046b.c"),
    "NUL in a label": (packet4(craft.dns_query([b"a\0b", b"c"])), "a\\000b.c"),
    "backslash, quotes, comma": (packet4(craft.dns_query([b"\\\"',"])), "\\092\\034\\039\\044"),
    "not ASCII": (packet4(craft.dns_query([b"\xc3\xa9", b"de"])), "\\195\\169.de"),
    "label type 64": (packet4(craft.dns_query(b"\x40" + b"a" * 64 + b"\0")), "<bad_name>"),
    "pointer at once": (packet4(craft.dns_query(b"\xc0\x0c")), "<bad_name>"),
    "pointer after a label": (packet4(craft.dns_query(b"\3www\xc0\x0c")), "<bad_name>"),
    "name without an end": (packet4(QUERY[:-5]), "<malformed>"),
    "question without a type": (packet4(QUERY[:-4]), "<malformed>"),
    "question without a class": (packet4(QUERY[:-1]), "<malformed>"),
    "header alone": (packet4(QUERY[:12]), "<malformed>"),
    "less than a header": (packet4(QUERY[:11]), "<malformed>"),
    "empty datagram": (packet4(b""), "<malformed>"),
    "IPv4 options": (packet4(QUERY, options=bytes(8)), NAME),
    "IPv4 header length a lie": (b"\x46" + packet4(QUERY)[1:], "<other_port>"),
    "IPv4 total length of 0": (packet4(QUERY, total_length=0), NAME),
    "IPv4 total length of 19": (packet4(QUERY, total_length=19), "<malformed>"),
    "IPv4 total length short": (packet4(QUERY, total_length=40), "<malformed>"),
    "IPv6 payload length of 0": (packet6(QUERY, payload_length=0), NAME),
    "IPv6 payload length short": (packet6(QUERY, payload_length=20), "<malformed>"),
    "IPv6 options": (packet6(QUERY, extensions=[(0, craft.options_header())]), NAME),
    "IPv6 atomic fragment": (
        packet6(QUERY, extensions=[(44, craft.fragment_header(0, more=False))]), NAME,
    ),
    "UDP length long": (
        craft.ipv4(A4, B4, craft.UDP, craft.udp(4242, 53, QUERY, length=200)), "<malformed>",
    ),
    "UDP length short": (
        craft.ipv4(A4, B4, craft.UDP, craft.udp(4242, 53, QUERY, length=30)), "<malformed>",
    ),
    "UDP length of 7": (
        craft.ipv4(A4, B4, craft.UDP, craft.udp(4242, 53, QUERY, length=7)), "<malformed>",
    ),
    "IPv4 fragment": (packet4(QUERY, more=True), "<fragment_lost>"),
    "IPv6 fragment": (
        packet6(QUERY + b"\0" * 7, extensions=[(44, craft.fragment_header(0, more=True))]),
        "<fragment_lost>",
    ),
    "quoted in an ICMP error": (
        craft.ipv4(A4, B4, craft.ICMP, b"\3\3" + bytes(6) + packet4(QUERY)), "<other_protocol>",
    ),
    "TCP query": (segment(craft.framed(QUERY)), NAME),
    "TCP without data": (segment(b""), "<tcp_empty>"),
    "TCP half a message": (segment(craft.framed(QUERY)[:20]), "<tcp_lost>"),
    "TCP no DNS": (segment(b"GET / HTTP/1.1\r\n\r\n"), "<tcp_lost>"),
    "another TCP port": (craft.ipv4(A4, B4, craft.TCP, craft.tcp(4242, 80, 1)), "<other_port>"),
    "IPv4 in IPv4": (craft.ipv4(A4, B4, craft.IPIP, packet4(QUERY)), NAME),
    "IPv6 in IPv4": (craft.ipv4(A4, B4, craft.IP6, packet6(QUERY)), NAME),
    "GRE": (craft.ipv4(A4, B4, craft.GRE, craft.gre(packet4(QUERY))), NAME),
    "VXLAN": (packet4(craft.vxlan(craft.ethernet(packet4(QUERY))), dport=4789), NAME),
    "VXLAN's port, no VXLAN": (packet4(b"\0" * 20, dport=4789), "<tunnel>"),
    "response to a client on VXLAN's port": (
        packet4(craft.dns_response(QUERY), sport=53, dport=4789), "<response>",
    ),
    "tunnel in tunnel in tunnel": (
        craft.ipv4(A4, B4, 4, craft.ipv4(A4, B4, 4, craft.ipv4(A4, B4, 4, packet4(QUERY)))), NAME,
    ),
}  # fmt: skip

every_packet = pytest.mark.parametrize(
    ("packet", "expected"), list(PACKETS.values()), ids=list(PACKETS)
)
every_link = pytest.mark.parametrize("link", list(QUICK_LINKS))


def decode(
    link_type: int, frames: Iterable[bytes], *, types: Iterable[int] = (1, 28), walk: bool = False
) -> tuple[list[Query], Counters]:
    """Decode frames to the end; every step must add up. `walk` leaves the quick way out."""
    counters = Counters()
    decoder = Decoder((53,), types, counters)
    queries: list[Query] = []
    for frame in frames:
        if walk:
            counters.packets += 1
            found: list[Query] = []
            decoder._walk(craft.TIME, link_type, frame, found)  # noqa: SLF001 - there is no other door
        else:
            found = decoder.decode(FrameBatch(link_type, [(craft.TIME, frame)]))
        counters.records += len(found)
        queries += found
        assert counters.adds_up()
        assert counters.held >= 0
    decoder.finish()
    assert counters.adds_up()
    assert counters.held == 0
    assert set(counters.reasons) <= set(REASONS)
    assert min(counters.reasons.values(), default=0) >= 0
    return queries, counters


def outcome(link_type: int, frame: bytes, *, types: Iterable[int] = (1, 28)) -> str:
    """Return the name a frame asks for, or its reason in brackets."""
    queries, counters = decode(link_type, [frame], types=types)
    if queries:
        assert len(queries) == 1
        return queries[0][6]
    (reason,) = +counters.reasons
    return f"<{reason}>"


def assert_ways_agree(link_type: int, frame: bytes) -> None:
    """Check that the quick way and the full walk make the same of a frame."""
    for types in ((1, 28), (ALL_TYPES,)):
        quick, quick_counters = decode(link_type, [frame], types=types)
        slow, slow_counters = decode(link_type, [frame], types=types, walk=True)
        assert quick == slow
        assert +quick_counters.reasons == +slow_counters.reasons


@every_link
@every_packet
def test_whole_frames(link: str, packet: bytes, expected: str) -> None:
    """Each kind of packet gives its query or its reason, in every link layer."""
    link_type, wrap = QUICK_LINKS[link]
    assert outcome(link_type, wrap(packet)) == expected


@every_packet
def test_frames_cut_anywhere(packet: bytes, expected: str) -> None:
    """A frame cut at any length gives the same query, or a counted reason; both ways agree."""
    for link_type, wrap in QUICK_LINKS.values():
        frame = wrap(packet)
        for length in range(len(frame)):
            if not outcome(link_type, frame[:length]).startswith("<"):
                assert outcome(link_type, frame[:length]) == expected
            assert_ways_agree(link_type, frame[:length])


@every_packet
def test_frames_with_a_trailer(packet: bytes, expected: str) -> None:
    """What a link layer adds behind a packet changes nothing."""
    for link_type, wrap in QUICK_LINKS.values():
        for trailer in (b"\0" * 20, b"\xff" * 7, QUERY, craft.dns_response(QUERY)):
            frame = wrap(packet) + trailer
            assert outcome(link_type, frame) == expected
            assert_ways_agree(link_type, frame)


def test_every_field_of_a_query() -> None:
    """Time, addresses, ports, type, name, levels, transport and ID are those of the packet."""
    frame = craft.ethernet(packet6(craft.dns_query("a.b.example", 65, txid=0xBEEF), sport=1025))
    queries, counters = decode(1, [frame], types=[65])
    assert queries == [
        (craft.TIME, A6, 1025, B6, 53, "HTTPS", "a.b.example", 3, "udp", 0xBEEF),
    ]
    assert counters.packets == counters.records == 1


def test_addresses_are_innermost() -> None:
    """A tunnel's own addresses do not show."""
    inner = craft.ipv4("198.51.100.1", "198.51.100.2", craft.UDP, craft.udp(7, 53, QUERY))
    queries, _ = decode(1, [craft.ethernet(craft.ipv4(A4, B4, craft.IPIP, inner))])
    assert [query[1:5] for query in queries] == [("198.51.100.1", 7, "198.51.100.2", 53)]


def test_a_batch_is_no_more_than_its_frames() -> None:
    """One batch of all kinds of frames gives what each of them gives alone, and in that order."""
    frames = [craft.ethernet(packet) for packet, _ in PACKETS.values()]
    counters = Counters()
    decoder = Decoder((53,), (1, 28), counters)
    batch = FrameBatch(1, [(craft.TIME, frame) for frame in frames])
    queries = decoder.decode(batch)
    counters.records += len(queries)
    assert counters.adds_up()
    one_by_one, other = decode(1, frames)
    assert queries == one_by_one
    decoder.finish()
    assert +counters.reasons == +other.reasons


def test_segments_with_several_messages() -> None:
    """Each message of a segment is a query or a reason of its own, and the sum says so."""
    messages = [QUERY, craft.dns_query(NAME, 15), craft.dns_query("b.example"), QUERY[:12]]
    frame = craft.ethernet(segment(b"".join(map(craft.framed, messages))))
    queries, counters = decode(1, [frame])
    assert [query[6] for query in queries] == [NAME, "b.example"]
    assert (counters.packets, counters.pipelined, counters.records) == (1, 3, 2)
    assert +counters.reasons == {"other_type": 1, "malformed": 1}


def test_tunnels_end_somewhere() -> None:
    """A frame of endless tunnels is given up, not followed."""
    packet = packet4(QUERY)
    for _ in range(60):
        packet = craft.ipv4(A4, B4, craft.IPIP, packet)
    assert outcome(1, craft.ethernet(packet)) == "<tunnel>"


def test_many_addresses_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of address texts is emptied when full, and what it gives stays right."""
    monkeypatch.setattr("dnsqmon.decode.decoder.MAX_ADDRESSES", 4)
    frames = [
        craft.ethernet(craft.ipv4(f"192.0.2.{n}", B4, craft.UDP, craft.udp(n, 53, QUERY)))
        for n in range(1, 30)
    ]
    queries, _ = decode(1, frames)
    assert [query[1] for query in queries] == [f"192.0.2.{n}" for n in range(1, 30)]


def test_an_unknown_link_type_is_counted() -> None:
    """Frames of a link type that is not decoded are counted as such."""
    assert outcome(147, craft.ethernet(packet4(QUERY))) == "<link_type>"


# Properties

#: Octets at which something changes: lengths, label types, separators, the case.
EDGES = st.sampled_from([
    0, 1, 2, 5, 8, 17, 31, 32, 33, 45, 46, 47, 48, 57, 63, 64, 65, 0x45, 0x46, 0x60, 92, 127, 128,
    0xC0, 0xFE, 0xFF,
])  # fmt: skip
LABEL = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.binary(min_size=30, max_size=66),
    st.text("abz019-_AZ.\\\x05\x20\0", min_size=1, max_size=63).map(str.encode),
    st.builds(
        lambda size, at, octet: bytes([*b"x" * at, octet, *b"y" * size])[: max(size, 1)],
        st.integers(1, 63), st.integers(0, 40), st.integers(0, 255),
    ),
)  # fmt: skip


@st.composite
def wire_names(draw: st.DrawFn) -> bytes:
    """Make names, mostly valid ones; the lengths of some lie, and some have no end."""
    octets = b""
    for label in draw(st.lists(LABEL, max_size=6)):
        honest = draw(st.integers(0, 9))
        octets += bytes([min(len(label), 255) if honest else draw(EDGES)]) + label
    return octets + draw(st.sampled_from([b"\0", b"\0", b"\0", b"", b"\xc0\x0c"]))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[int, bytes]:
    """Take a frame of the table, or a new one; change octets and 16-bit fields, cut, lengthen."""
    link_type, wrap = QUICK_LINKS[draw(st.sampled_from(list(QUICK_LINKS)))]
    if draw(st.booleans()):
        packet = PACKETS[draw(st.sampled_from(list(PACKETS)))][0]
    else:
        message = craft.dns_query(
            draw(wire_names()),
            draw(st.sampled_from([1, 12, 28, 65])),
            flags=draw(st.sampled_from([0, 0x100, 0x100, 0x100, 0x7FF, 0x800, 0x8180])),
            qdcount=draw(st.sampled_from([0, 1, 1, 1, 2, 65535])),
            raw=draw(st.binary(max_size=6)),
        )
        make = draw(st.sampled_from([packet4, packet6]))
        packet = make(message, dport=draw(st.sampled_from([53, 53, 53, 4789, 5353])))
    frame = bytearray(wrap(packet))
    for _ in range(draw(st.integers(0, 4))):
        if frame:
            at = draw(st.integers(0, len(frame) - 1))
            frame[at] = draw(st.one_of(EDGES, st.integers(0, 255)))
    lengths = len(frame) - len(packet)
    for at in (lengths + 2, lengths + 4, lengths + 24, lengths + 44):
        if draw(st.integers(0, 5)) == 0 and at + 2 <= len(frame):  # a length that lies a little
            value = struct.unpack_from(">H", frame, at)[0] + draw(st.integers(-20, 20))
            struct.pack_into(">H", frame, at, value & 0xFFFF)
    if draw(st.integers(0, 3)) == 0:
        del frame[draw(st.integers(0, len(frame))) :]
    return link_type, bytes(frame) + draw(st.binary(max_size=8))


@settings(max_examples=2500, deadline=None)
@given(mutated())
@example((276, bytes(4) + craft.sll2(packet4(QUERY))))
@example((1, craft.ethernet(packet4(craft.dns_query(flags=0x8180))[:-24])))
@example((1, craft.ethernet(packet4(b"")) + b"\xff" * 18))
def test_both_ways_agree(case: tuple[int, bytes]) -> None:
    """The quick way gives the query, or counts the reason, that the full walk does."""
    assert_ways_agree(*case)


@settings(max_examples=1000, deadline=None)
@given(wire_names(), st.sampled_from([packet4, packet6]))
def test_names_are_the_same_over_every_link(name: bytes, make: Callable[[bytes], bytes]) -> None:
    """A name of any octets reads the same quickly and as a raw IP packet, which is walked."""
    packet = make(craft.dns_query(name))
    raw, raw_counters = decode(craft.RAW, [packet])
    for link_type, wrap in QUICK_LINKS.values():
        queries, counters = decode(link_type, [wrap(packet)])
        assert queries == raw
        assert +counters.reasons == +raw_counters.reasons


LINK_TYPES = [0, 1, 9, 12, 14, 50, 51, 101, 104, 105, 108, 109, 113, 127, 147, 228, 229, 239, 276]


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(LINK_TYPES), st.lists(st.binary(max_size=120), max_size=4))
def test_any_octets_in_any_link_type_are_counted(link_type: int, frames: list[bytes]) -> None:
    """No octets whatever raise out of decode; each frame is a query or has its reason."""
    decode(link_type, frames, types=[ALL_TYPES])


@settings(max_examples=500, deadline=None)
@given(st.lists(mutated(), max_size=12))
def test_hostile_frames_in_a_row_add_up(cases: list[tuple[int, bytes]]) -> None:
    """Fragments and segments that were damaged do not upset the sum of what comes after them."""
    for link_type in {case[0] for case in cases}:
        decode(link_type, [frame for kind, frame in cases if kind == link_type])
