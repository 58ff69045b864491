"""Proof of the link layers: each gives the network protocol and the packet behind it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import craft
from dnsqmon.decode.link import IPV4, IPV6, strip_link

P4 = craft.ipv4("192.0.2.1", "192.0.2.2", 99, b"payload")
P6 = craft.ipv6("2001:db8::1", "2001:db8::2", 99, b"payload")
SNAP = b"\xaa\xaa\3\0\0\0"
SOME = bytes(range(1, 13))


def dot3(packet: bytes, ethertype: int) -> bytes:
    """Wrap a packet in IEEE 802.3, LLC and SNAP headers."""
    body = SNAP + struct.pack(">H", ethertype) + packet
    return SOME + struct.pack(">H", len(body)) + body


def wlan(packet: bytes, ethertype: int, *, control: bytes = b"\x08\0", head: int = 24) -> bytes:
    """Wrap a packet in an 802.11 data frame."""
    return control + bytes(head - 2) + SNAP + struct.pack(">H", ethertype) + packet


def nflog(packet: bytes) -> bytes:
    """Wrap a packet in an NFLOG header with a prefix before it."""
    prefix = struct.pack("<HH", 9, 10) + b"pre\0\0\0\0\0"
    return b"\2\0\0\0" + prefix + struct.pack("<HH", 4 + len(packet), 9) + packet


FRAMES = {
    "Ethernet": (1, craft.ethernet(P4), IPV4, P4),
    "Ethernet, IPv6": (1, craft.ethernet(P6), IPV6, P6),
    "802.1Q": (1, craft.vlan(craft.ethernet(P4)), IPV4, P4),
    "802.1ad": (1, craft.vlan(craft.vlan(craft.ethernet(P6)), tpid=0x88A8), IPV6, P6),
    "0x9100": (1, craft.vlan(craft.vlan(craft.ethernet(P6)), tpid=0x9100), IPV6, P6),
    "ARP": (1, craft.ethernet(b"\0\1", 0x0806), 0x0806, b"\0\1"),
    "802.3 with SNAP": (1, dot3(P4, 0x0800), IPV4, P4),
    "802.3 with a VLAN tag": (1, craft.vlan(dot3(P6, 0x86DD)), IPV6, P6),
    "802.3 with another LLC": (1, SOME + b"\0\3\x42\x42\3", 0, b""),
    "Linux cooked": (113, craft.sll(P4), IPV4, P4),
    "Linux cooked, VLAN": (113, craft.sll(b"\0\5\x08\0" + P4, 0x8100), IPV4, P4),
    "Linux cooked 2": (276, craft.sll2(P6), IPV6, P6),
    "Linux cooked 2, VLAN": (276, craft.sll2(b"\0\5\x86\xdd" + P6, 0x8100), IPV6, P6),
    "BSD loopback, little-endian": (0, craft.null_loopback(P4), IPV4, P4),
    "BSD loopback, big-endian": (0, craft.null_loopback(P6, byte_order=">"), IPV6, P6),
    "BSD loopback, family of macOS": (0, craft.null_loopback(P6, family=24), IPV6, P6),
    "OpenBSD loopback": (108, craft.null_loopback(P4, byte_order="!"), IPV4, P4),
    "OpenBSD enc": (109, bytes(12) + P4, IPV4, P4),
    "raw": (101, P6, IPV6, P6),
    "raw of old BSD": (12, P4, IPV4, P4),
    "raw of OpenBSD": (14, P4, IPV4, P4),
    "IPv4": (228, P4, IPV4, P4),
    "IPv6": (229, P6, IPV6, P6),
    "raw, neither": (101, b"\x50" + P4, 0, b"\x50" + P4),
    "PPP": (9, b"\xff\3\0\x21" + P4, IPV4, P4),
    "PPP without address and control": (9, b"\0\x57" + P6, IPV6, P6),
    "PPP with a short protocol": (9, b"\x21" + P4, IPV4, P4),
    "PPP, its own signalling": (9, b"\xff\3\xc0\x21\1", 0, b"\1"),
    "PPP in HDLC": (50, b"\xff\3\0\x21" + P4, IPV4, P4),
    "PPP over Ethernet": (51, craft.pppoe(P6), IPV6, P6),
    "Cisco HDLC": (104, b"\x0f\0\x08\0" + P4, IPV4, P4),
    "802.11": (105, wlan(P4, 0x0800), IPV4, P4),
    "802.11 with QoS": (105, wlan(P6, 0x86DD, control=b"\x88\1", head=26), IPV6, P6),
    "802.11 with QoS and HT": (105, wlan(P4, 0x800, control=b"\x88\x81", head=30), IPV4, P4),
    "802.11 between access points": (105, wlan(P4, 0x0800, control=b"\x08\3", head=30), IPV4, P4),
    "802.11, encrypted": (105, wlan(P4, 0x0800, control=b"\x08\x41"), 0, b""),
    "802.11, no data": (105, wlan(P4, 0x0800, control=b"\x48\0"), 0, b""),
    "802.11 beacon": (105, wlan(P4, 0x0800, control=b"\x80\0"), 0, b""),
    "radiotap": (127, b"\0\0\x0a\0" + bytes(6) + wlan(P4, 0x0800), IPV4, P4),
    "NFLOG": (239, nflog(P4), IPV4, P4),
    "NFLOG without a packet": (239, b"\2\0\0\0\4\0\1\0", 0, b""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("link_type", "frame", "ethertype", "packet"), list(FRAMES.values()), ids=list(FRAMES)
)
def test_link_layers(link_type: int, frame: bytes, ethertype: int, packet: bytes) -> None:
    """Each link layer gives the EtherType and all octets behind its header."""
    assert strip_link(link_type, frame) == (ethertype, packet)


@pytest.mark.parametrize("link_type", [2, 7, 129, 147, 258, 65535, -1])
def test_other_link_types(link_type: int) -> None:
    """A link type that is not decoded gives None."""
    assert strip_link(link_type, craft.ethernet(P4)) is None


@pytest.mark.parametrize(
    ("link_type", "frame"), [case[:2] for case in FRAMES.values()], ids=list(FRAMES)
)
def test_frames_cut_anywhere(link_type: int, frame: bytes) -> None:
    """A frame cut in its header gives a packet that is empty or cut, and never an error."""
    for length in range(len(frame)):
        assert strip_link(link_type, frame[:length]) is not None


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted({case[0] for case in FRAMES.values()})), st.binary(max_size=80))
def test_any_octets(link_type: int, frame: bytes) -> None:
    """No octets raise; the packet is the end of the frame, or nothing."""
    stripped = strip_link(link_type, frame)
    assert stripped is not None
    assert stripped[1] in frame


def test_endless_tags() -> None:
    """A frame of nothing but tags or SNAP headers comes to an end."""
    assert strip_link(1, SOME + b"\x81\0\0\1" * 16000) == (0, b"")
    assert strip_link(1, SOME + b"\0\0" + (SNAP + b"\0\0") * 8000) == (0, (SNAP + b"\0\0") * 7999)
