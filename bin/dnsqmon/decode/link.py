"""Link header to network protocol: what kind of packet a frame carries, and where it starts.

Link types are the LINKTYPE_ numbers of the tcpdump registry (tcpdump.org/linktypes.html).
"""

from __future__ import annotations

from typing import Callable

IPV4 = 0x0800
IPV6 = 0x86DD
#: 802.1Q, 802.1ad, and the two numbers used for stacked tags before 802.1ad.
VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})

#: Up to here the two octets are the length of an IEEE 802.3 frame, and LLC follows (RFC 1042).
_MAX_LENGTH = 1500
_SNAP = b"\xaa\xaa\x03\0\0\0"

#: An EtherType and the packet behind it; EtherType 0 where there is none we know.
Packet = tuple[int, bytes]


def strip_link(link_type: int, frame: bytes) -> Packet | None:
    """Return the frame's EtherType and its packet; None for a link type that is not decoded.

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
    packet = frame[position + 2 :]
    return _snap(packet) if ethertype <= _MAX_LENGTH else (ethertype, packet)


def _snap(packet: bytes) -> Packet:
    """Strip an LLC and a SNAP header."""
    return (int.from_bytes(packet[6:8], "big"), packet[8:]) if packet[:6] == _SNAP else (0, b"")


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
    return ethertype_at(frame, 22) if protocol in VLAN_TAGS else (protocol, frame[20:])


def _loopback(frame: bytes) -> Packet:
    """Strip the four-byte address family of BSD, whose number and byte order vary: trust the IP."""
    return bare_ip(frame[4:])


def _openbsd_enc(frame: bytes) -> Packet:
    return bare_ip(frame[12:])


def _cisco_hdlc(frame: bytes) -> Packet:
    return ethertype_at(frame, 2)


def _radiotap(frame: bytes) -> Packet:
    """Strip a radiotap header (radiotap.org), whose length is little-endian."""
    return _wlan(frame[int.from_bytes(frame[2:4], "little") :])


def _wlan(frame: bytes) -> Packet:
    """Strip the header of an 802.11 data frame (IEEE 802.11-2020, 9.2.3); encrypted ones give 0."""
    if len(frame) < 2 or frame[0] & 0x4F != 0x08 or frame[1] & 0x40:
        return 0, b""
    start = 30 if frame[1] & 3 == 3 else 24  # four addresses between two access points
    if frame[0] & 0x80:  # QoS control, and HT control behind it
        start += 6 if frame[1] & 0x80 else 2
    return _snap(frame[start:])


def _nflog(frame: bytes) -> Packet:
    """Find the packet among the type-length-value attributes (tcpdump.org, LINKTYPE_NFLOG)."""
    position = 4
    while position + 4 <= len(frame):
        length = int.from_bytes(frame[position : position + 2], "little")
        if frame[position + 2 : position + 4] == b"\x09\0":  # NFULA_PAYLOAD
            return bare_ip(frame[position + 4 : position + length])
        position += max(4, length + -length % 4)
    return 0, b""


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
    105: _wlan,
    108: _loopback,
    109: _openbsd_enc,
    113: _linux_cooked,
    127: _radiotap,
    228: bare_ip,
    229: bare_ip,
    239: _nflog,
    276: _linux_cooked_2,
}
