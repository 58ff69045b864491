"""Tunnel headers to the packet inside: GRE, ERSPAN, MPLS, VXLAN, Geneve, GTP, Teredo.

Opened here rather than by scapy: a mirror port that delivers everything inside a tunnel must keep
up, and must work where scapy is not installed.
"""

from __future__ import annotations

from dnsqmon.decode.link import IPV6, Packet, bare_ip, ethernet, ethertype_at, ppp

GRE = 47
#: IP protocols that carry an IP packet as it is: IP in IP (RFC 2003), IPv6 in IP (RFC 4213).
IP_IN_IP = {4: 0x0800, 41: 0x86DD}
MPLS = frozenset({0x8847, 0x8848})

_ETHERNET_BRIDGING = 0x6558
_ERSPAN = {0x88BE: 8, 0x22EB: 12}
_PPP = 0x880B


def gre(payload: bytes) -> Packet | None:
    """Strip a GRE header (RFC 2784, 2890, 2637); None where it carries nothing we can open."""
    if len(payload) < 4:
        return None
    flags = payload[0]
    version = payload[1] & 7
    start = 4
    for bit in (0x80, 0x20, 0x10):  # checksum, key, sequence number
        start += 4 if flags & bit else 0
    start += 4 if version == 1 and payload[1] & 0x80 else 0  # acknowledgement of PPTP
    ethertype, packet = int.from_bytes(payload[2:4], "big"), payload[start:]
    if ethertype in _ERSPAN:  # ERSPAN type I has neither a sequence number nor a header
        return ethernet(packet[_ERSPAN[ethertype] if flags & 0x10 else 0 :])
    if ethertype == _ETHERNET_BRIDGING:
        return ethernet(packet)
    if ethertype == _PPP:
        return ppp(packet)
    return ethertype_at(payload[2:4] + packet, 0)


def vxlan(payload: bytes) -> Packet | None:
    """Strip a VXLAN header, whose I flag must be set."""
    return ethernet(payload[8:]) if payload[:1] == b"\x08" else None


def geneve(payload: bytes) -> Packet | None:
    """Strip a Geneve header of version 0 and its options."""
    if len(payload) < 8 or payload[0] >> 6:
        return None
    start = 8 + (payload[0] & 0x3F) * 4
    if payload[2:4] == b"\x65\x58":
        return ethernet(payload[start:])
    return int.from_bytes(payload[2:4], "big"), payload[start:]


def mpls(packet: bytes) -> Packet | None:
    """Strip the label stack (RFC 3032); what is behind it is IP, or Ethernet (RFC 4448)."""
    position = 0
    while position + 4 <= len(packet):
        position += 4
        if packet[position - 2] & 1:
            inner = bare_ip(packet[position:])
            if inner[0]:
                return inner
            control_word = 4 if packet[position : position + 1] == b"\0" else 0
            return ethernet(packet[position + control_word :])
    return None


def gtp(payload: bytes) -> Packet | None:
    """Strip the header of a GTP-U packet (3GPP TS 29.281, section 5); None for its signalling."""
    if len(payload) < 8 or payload[0] & 0xF0 != 0x30 or payload[1] != 255:
        return None
    start = 8
    if payload[0] & 7:  # sequence number, N-PDU number, type of the first extension header
        start = 12
        while payload[0] & 4 and payload[start - 1 : start] > b"\0":
            start += max(4, 4 * int.from_bytes(payload[start : start + 1], "big"))
    return bare_ip(payload[start:])


def teredo(payload: bytes) -> Packet | None:
    """Strip the authentication and origin indications of Teredo (RFC 4380, section 5.1.1)."""
    if payload[:2] == b"\0\1":
        payload = payload[13 + sum(payload[2:4]) :]
    if payload[:2] == b"\0\0":
        payload = payload[8:]
    packet = bare_ip(payload)
    return packet if packet[0] == IPV6 else None


#: UDP destination ports, as on the wire, and what opens them: VXLAN (RFC 7348, and the port Linux
#: had before), Geneve (RFC 8926), GTP-U, GRE in UDP (RFC 8086), Teredo.
IN_UDP = {
    port.to_bytes(2, "big"): open_tunnel
    for port, open_tunnel in {
        4789: vxlan, 8472: vxlan, 6081: geneve, 2152: gtp, 4754: gre, 3544: teredo,
    }.items()
}  # fmt: skip
