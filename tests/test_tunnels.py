"""Proof of the tunnels: each gives the packet inside, and what is none gives nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import craft
from dnsqmon.decode import tunnels

if TYPE_CHECKING:
    from dnsqmon.decode.link import Packet

P4 = craft.ipv4("192.0.2.1", "192.0.2.2", 99, b"payload")
P6 = craft.ipv6("2001:db8::1", "2001:db8::2", 99, b"payload")
FRAME = craft.ethernet(P4)
V4, V6 = (0x0800, P4), (0x86DD, P6)

Open = Callable[[bytes], "Packet | None"]

OPENED: dict[str, tuple[Open, bytes, Packet | None]] = {
    "GRE": (tunnels.gre, craft.gre(P4), V4),
    "GRE, IPv6": (tunnels.gre, craft.gre(P6), V6),
    "GRE with a key": (tunnels.gre, craft.gre(P4, key=7), V4),
    "GRE, all options": (tunnels.gre, b"\xb0\0\x08\0" + bytes(12) + P4, V4),
    "GRE, Ethernet": (tunnels.gre, craft.gre(FRAME, 0x6558), V4),
    "GRE, ERSPAN I": (tunnels.gre, b"\0\0\x88\xbe" + FRAME, V4),
    "GRE, ERSPAN II": (tunnels.gre, b"\x10\0\x88\xbe" + bytes(12) + FRAME, V4),
    "GRE, ERSPAN III": (tunnels.gre, b"\x10\0\x22\xeb" + bytes(16) + FRAME, V4),
    "GRE, PPTP": (tunnels.gre, b"\x30\x81\x88\x0b" + bytes(12) + b"\xff\3\0\x21" + P4, V4),
    "GRE, MPLS": (tunnels.gre, b"\0\0\x88\x47" + P4, (0x8847, P4)),
    "GRE, cut": (tunnels.gre, b"\0\0\x08", None),
    "VXLAN": (tunnels.vxlan, craft.vxlan(FRAME), V4),
    "VXLAN without its flag": (tunnels.vxlan, bytes(8) + FRAME, None),
    "Geneve": (tunnels.geneve, b"\0\0\x65\x58" + bytes(4) + FRAME, V4),
    "Geneve with options": (tunnels.geneve, b"\2\0\x65\x58" + bytes(12) + FRAME, V4),
    "Geneve, IPv6": (tunnels.geneve, b"\0\0\x86\xdd" + bytes(4) + P6, V6),
    "Geneve of version 1": (tunnels.geneve, b"\x40\0\x65\x58" + bytes(4) + FRAME, None),
    "Geneve, cut": (tunnels.geneve, b"\0\0\x65\x58", None),
    "MPLS": (tunnels.mpls, craft.mpls(P4, 16), V4),
    "MPLS, three labels": (tunnels.mpls, craft.mpls(P6, 16, 17, 18), V6),
    "MPLS, Ethernet": (tunnels.mpls, craft.mpls(FRAME, 16), V4),
    "MPLS, Ethernet behind a control word": (tunnels.mpls, craft.mpls(bytes(4) + FRAME, 16), V4),
    "MPLS without an end": (tunnels.mpls, bytes(40), None),
    "GTP": (tunnels.gtp, b"\x30\xff" + bytes(6) + P4, V4),
    "GTP, sequence number": (tunnels.gtp, b"\x32\xff" + bytes(6) + b"\0\1\0\x85" + P6, V6),
    "GTP, an extension header": (
        tunnels.gtp, b"\x34\xff" + bytes(9) + b"\x85" + b"\1\0\0\0" + P4, V4,
    ),
    "GTP, two extension headers": (
        tunnels.gtp, b"\x34\xff" + bytes(9) + b"\x85" + b"\1\0\0\xc0" + b"\2" + bytes(7) + P4, V4,
    ),
    "GTP, echo": (tunnels.gtp, b"\x32\1" + bytes(10), None),
    "GTP of version 2": (tunnels.gtp, b"\x48\xff" + bytes(6) + P4, None),
    "GTP, cut": (tunnels.gtp, b"\x30\xff", None),
    "Teredo": (tunnels.teredo, P6, V6),
    "Teredo, origin": (tunnels.teredo, bytes(8) + P6, V6),
    "Teredo, authentication": (
        tunnels.teredo, b"\0\1\2\3" + b"id" + b"aut" + bytes(9) + P6, V6,
    ),
    "Teredo, both": (tunnels.teredo, b"\0\1\0\0" + bytes(9) + bytes(8) + P6, V6),
    "Teredo, IPv4": (tunnels.teredo, P4, None),
    "Teredo, nothing": (tunnels.teredo, b"", None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("open_tunnel", "payload", "packet"), list(OPENED.values()), ids=list(OPENED)
)
def test_tunnels(open_tunnel: Open, payload: bytes, packet: Packet | None) -> None:
    """Each tunnel gives what it carries; a header that is none, or not for us, gives None."""
    assert open_tunnel(payload) == packet


@pytest.mark.parametrize("open_tunnel", sorted({case[0] for case in OPENED.values()}, key=str))
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_octets(open_tunnel: Open, payload: bytes) -> None:
    """No octets raise; what comes out was in there."""
    packet = open_tunnel(payload)
    assert packet is None or packet[1] in payload


def test_udp_ports() -> None:
    """The ports of tunnels are looked up as they are on the wire."""
    ports = {struct.unpack(">H", port)[0] for port in tunnels.IN_UDP}
    assert ports == {2152, 3544, 4754, 4789, 6081, 8472}
