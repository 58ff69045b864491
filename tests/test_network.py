"""Proof of the IP layer: packet to datagram, fragment data and lies about lengths."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import craft
from dnsqmon.decode.network import Datagram, Fragment, read_datagram, unfragmented

A4, B4, A6, B6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
DATA = b"0123456789abcdef"
HEADERS = [(0, craft.options_header(1)), (43, craft.options_header()), (60, craft.options_header())]


def v4(data: bytes = DATA, **options: object) -> bytes:
    """Build an IPv4 packet of protocol 99."""
    return craft.ipv4(A4, B4, 99, data, **options)  # type: ignore[arg-type]


def v6(data: bytes = DATA, protocol: int = 99, **options: object) -> bytes:
    """Build an IPv6 packet of protocol 99."""
    return craft.ipv6(A6, B6, protocol, data, **options)  # type: ignore[arg-type]


def fragment(offset: int, *, more: bool) -> tuple[int, bytes]:
    """Make an IPv6 fragment header of identification 1."""
    return 44, craft.fragment_header(offset, more=more)


#: A packet, then protocol, payload, cut, fragment; or the reason.
PACKETS: dict[str, tuple[bytes, tuple[object, ...] | str]] = {
    "IPv4": (v4(), (99, DATA, False, None)),
    "options": (v4(options=b"\1" * 40), (99, DATA, False, None)),
    "padding behind it": (v4() + b"\0" * 9, (99, DATA, False, None)),
    "do not fragment": (v4()[:6] + b"\x40" + v4()[7:], (99, DATA, False, None)),
    "reserved flag": (v4()[:6] + b"\x80" + v4()[7:], (99, DATA, False, None)),
    "first fragment": (v4(ident=7, more=True), (99, DATA, False, Fragment(7, 0, True))),
    "last fragment": (v4(ident=7, frag_off=64), (99, DATA, False, Fragment(7, 64, False))),
    "length 0 of offload": (v4(total_length=0), (99, DATA, False, None)),
    "length more than captured": (v4(total_length=99), (99, DATA, True, None)),
    "length less than the header": (v4(total_length=19), "malformed"),
    "length of the header": (v4(total_length=20), (99, b"", False, None)),
    "header length of 16": (b"\x44" + v4()[1:], "malformed"),
    "version 5": (b"\x55" + v4()[1:], "malformed"),
    "cut in the header": (v4()[:19], "truncated"),
    "IPv6": (v6(), (99, DATA, False, None)),
    "IPv6, padding": (v6() + b"\0" * 9, (99, DATA, False, None)),
    "IPv6, all headers": (v6(extensions=HEADERS), (99, DATA, False, None)),
    "IPv6, authentication": (
        v6(extensions=[(51, craft.authentication_header())]), (99, DATA, False, None),
    ),
    "IPv6, mobility, HIP and shim6": (
        v6(extensions=[(number, craft.options_header()) for number in (135, 139, 140)]),
        (99, DATA, False, None),
    ),
    "IPv6, atomic fragment": (
        v6(extensions=[HEADERS[0], fragment(0, more=False), HEADERS[2]]), (99, DATA, False, None),
    ),
    "IPv6, first fragment": (
        v6(extensions=[HEADERS[0], fragment(0, more=True)]),
        (99, DATA, False, Fragment(1, 0, True)),
    ),
    "IPv6, later fragment of what looks like a header": (
        v6(protocol=60, extensions=[fragment(64, more=True)]),
        (60, DATA, False, Fragment(1, 64, True)),
    ),
    "IPv6, no next header": (v6(protocol=59), (59, DATA, False, None)),
    "IPv6, length 0 of offload": (v6(payload_length=0), (99, DATA, False, None)),
    "IPv6, length more than captured": (v6(payload_length=99), (99, DATA, True, None)),
    "IPv6, header behind the end": (v6(b"", 60), "malformed"),
    "IPv6, header over the end": (v6(b"\x63\xff" + bytes(14), 60), "malformed"),
    "IPv6, cut in a header": (v6(extensions=HEADERS)[:41], "truncated"),
    "IPv6, version 4": (b"\x40" + v6()[1:], "malformed"),
    "IPv6, cut in the header": (v6()[:39], "truncated"),
}  # fmt: skip
every_packet = pytest.mark.parametrize(
    ("packet", "expected"), list(PACKETS.values()), ids=list(PACKETS)
)


def ethertype(packet: bytes, name: str = "") -> int:
    """Return the EtherType a packet came with, whatever its version says."""
    return 0x86DD if "IPv6" in name or packet[:1] >= b"\x60" else 0x0800


@pytest.mark.parametrize("name", list(PACKETS))
def test_packets(name: str) -> None:
    """Each kind of packet gives its datagram or its reason."""
    packet, expected = PACKETS[name]
    kind = ethertype(packet, name)
    found = read_datagram(kind, packet)
    if isinstance(expected, str):
        assert found == expected
    else:
        addresses = (A4, B4) if kind == 0x0800 else (A6, B6)
        assert isinstance(found, Datagram)
        assert tuple(found) == (*map(craft.packed, addresses), *expected)


@every_packet
def test_packets_cut_anywhere(packet: bytes, expected: tuple[object, ...] | str) -> None:
    """A packet cut anywhere is refused, or its payload is the start of what it was."""
    for length in range(len(packet)):
        found = read_datagram(ethertype(packet), packet[:length])
        if isinstance(found, str):
            assert found in {"truncated", "malformed"}
        elif isinstance(expected, tuple):
            assert str(expected[1])[2:-1].startswith(str(found.payload)[2:-1])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([0x0800, 0x86DD]), st.binary(max_size=120))
def test_any_octets(kind: int, packet: bytes) -> None:
    """No octets raise; the payload is part of the packet."""
    found = read_datagram(kind, packet)
    if isinstance(found, str):
        assert found in {"truncated", "malformed"}
    else:
        assert found.payload in packet


@pytest.mark.parametrize(
    ("protocol", "payload", "expected"),
    [
        (17, DATA, (17, DATA)),
        (60, b"\x11\0" + bytes(6) + DATA, (17, DATA)),
        (60, b"\x3c\0" + bytes(6) + b"\x11\1" + bytes(14) + DATA, (17, DATA)),
        (51, b"\x11\4" + bytes(22) + DATA, (17, DATA)),
        (60, b"\x11", (60, b"\x11")),
        (60, b"", (60, b"")),
    ],
)
def test_headers_behind_a_fragment_header(
    protocol: int, payload: bytes, expected: tuple[int, bytes]
) -> None:
    """Once fragments are joined, the headers they carried are skipped; broken ones stay."""
    part = Datagram(b"a", b"b", protocol, b"part", False, Fragment(1, 0, True))
    whole = unfragmented(part, payload)
    assert (whole.protocol, whole.payload) == expected
    assert whole.fragment is None
