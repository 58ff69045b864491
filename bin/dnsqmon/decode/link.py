"""Link header to network protocol: what kind of packet a frame carries, and where it starts.

Link types are the LINKTYPE_ numbers of the tcpdump registry (tcpdump.org/linktypes.html).
"""

from __future__ import annotations

from typing import Callable

IPV4 = 0x0800
IPV6 = 0x86DD
#: 802.1Q, 802.1ad, and the two numbers used for stacked tags before 802.1ad.
VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})

#: An EtherType and the packet behind it; EtherType 0 where there is none we know.
Packet = tuple[int, bytes]


def strip_link(link_type: int, frame: bytes) -> Packet | None:
    """Give the frame's EtherType and its packet; None for a link type that is not decoded.

    A frame too short for its header gives an empty packet.
    """
    strip = _STRIP.get(link_type)
    return strip(frame) if strip else None


def ethernet(frame: bytes) -> Packet:
    """Strip an Ethernet II header and any number of VLAN tags."""
    return ethertype_at(frame, 12)


def ethertype_at(frame: bytes, position: int) -> Packet:
    """Read the EtherType at `position`, skip VLAN tags, and split the packet off."""
    ethertype = int.from_bytes(frame[position : position + 2], "big")
    while ethertype in VLAN_TAGS:
        position += 4
        ethertype = int.from_bytes(frame[position : position + 2], "big")
    return ethertype, frame[position + 2 :]


def ppp(frame: bytes) -> Packet:
    """Strip a PPP header, whose address and control bytes may be there or not (RFC 1661, 1662)."""
    start = 2 if frame[:2] == b"\xff\x03" else 0
    width = 1 if frame[start : start + 1] and frame[start] & 1 else 2
    protocol = int.from_bytes(frame[start : start + width], "big")
    return {0x21: IPV4, 0x57: IPV6}.get(protocol, 0), frame[start + width :]


def pppoe(packet: bytes) -> Packet:
    """Strip a PPPoE session header (RFC 2516, section 4) and the PPP protocol behind it."""
    return ppp(packet[6:])


def bare_ip(packet: bytes) -> Packet:
    """Tell IPv4 from IPv6 by the version in the first four bits."""
    version = packet[0] >> 4 if packet else 0
    return {4: IPV4, 6: IPV6}.get(version, 0), packet


def _linux_cooked(frame: bytes) -> Packet:
    return ethertype_at(frame, 14)


def _linux_cooked_2(frame: bytes) -> Packet:
    protocol = int.from_bytes(frame[:2], "big")
    return ethertype_at(frame, 18) if protocol in VLAN_TAGS else (protocol, frame[20:])


def _loopback(frame: bytes) -> Packet:
    """Strip the four-byte address family of BSD, whose number and byte order vary: trust the IP."""
    return bare_ip(frame[4:])


def _openbsd_enc(frame: bytes) -> Packet:
    return bare_ip(frame[12:])


def _cisco_hdlc(frame: bytes) -> Packet:
    return ethertype_at(frame, 2)


_STRIP: dict[int, Callable[[bytes], Packet]] = {
    0: _loopback,
    1: ethernet,
    9: ppp,
    12: bare_ip,
    14: bare_ip,
    50: ppp,
    51: pppoe,
    101: bare_ip,
    104: _cisco_hdlc,
    108: _loopback,
    109: _openbsd_enc,
    113: _linux_cooked,
    228: bare_ip,
    229: bare_ip,
    276: _linux_cooked_2,
}
