"""IPv4 and IPv6 headers: packet to datagram, with its fragment data where it is one of several."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dnsqmon.decode.link import IPV4

UDP = 17
TCP = 6

_ipv4 = struct.Struct(">BxHHHxB2x4s4s").unpack_from
_ipv6 = struct.Struct(">4xHBx16s16s").unpack_from
#: IPv6 extension headers that say the next header and their own length in units of 8 octets, less
#: one (RFC 8200, section 4): hop-by-hop, routing, destination, mobility, HIP, shim6.
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
_AUTHENTICATION = 51
_FRAGMENT = 44


class Fragment(NamedTuple):
    """Where a fragment belongs: the datagram's identification, the offset in octets, the M flag."""

    identification: int
    offset: int
    more: bool


class Datagram(NamedTuple):
    """What an IP packet carries; addresses are 4 or 16 octets."""

    src: bytes
    dst: bytes
    protocol: int
    payload: bytes
    #: The capture holds less of the packet than its header says.
    cut: bool
    fragment: Fragment | None


def read_datagram(ethertype: int, packet: bytes) -> Datagram | str:
    """Read the headers of an IP packet; a reason of `counters.REASONS` where they are no good."""
    try:
        return _read_ipv4(packet) if ethertype == IPV4 else _read_ipv6(packet)
    except struct.error:
        return "truncated"


def unfragmented(datagram: Datagram, payload: bytes) -> Datagram:
    """Make the whole datagram of one of its fragments and the payload of all of them.

    The first octets of the payload may be further extension headers (RFC 8200, section 4.5).
    """
    try:
        protocol, position = _skip_headers(datagram.protocol, payload, 0)
    except struct.error:
        protocol, position = datagram.protocol, 0
    return datagram._replace(protocol=protocol, payload=payload[position:], fragment=None)


def _read_ipv4(packet: bytes) -> Datagram | str:
    """RFC 791, section 3.1. A total length of 0 is left by segmentation offload: take it all."""
    version_ihl, length, identification, flags, protocol, src, dst = _ipv4(packet)
    header = (version_ihl & 15) * 4
    length = length or len(packet)
    if version_ihl >> 4 != 4 or header < 20 or length < header:
        return "malformed"
    fragment = None
    if flags & 0x3FFF:
        fragment = Fragment(identification, (flags & 0x1FFF) * 8, bool(flags & 0x2000))
    return Datagram(src, dst, protocol, packet[header:length], length > len(packet), fragment)


def _read_ipv6(packet: bytes) -> Datagram | str:
    """RFC 8200, sections 3 and 4. A payload length of 0 is left by offload: take it all."""
    length, protocol, src, dst = _ipv6(packet)
    if packet[0] >> 4 != 6:
        return "malformed"
    end = 40 + length if length else len(packet)
    cut = end > len(packet)
    fragment = None
    position = 40
    try:
        protocol, position = _skip_headers(protocol, packet, position)
        while protocol == _FRAGMENT and fragment is None:
            protocol, offset, identification = struct.unpack_from(">BxHI", packet, position)
            position += 8
            if offset & 0xFFF9:
                fragment = Fragment(identification, offset & 0xFFF8, bool(offset & 1))
            else:  # an atomic fragment (RFC 6946) is a whole datagram
                protocol, position = _skip_headers(protocol, packet, position)
    except struct.error:
        return "truncated" if cut else "malformed"
    if position > end:
        return "malformed"
    return Datagram(src, dst, protocol, packet[position:end], cut, fragment)


def _skip_headers(protocol: int, packet: bytes, position: int) -> tuple[int, int]:
    """Skip extension headers; what they are followed by and where, or struct.error."""
    while protocol in _EXTENSIONS or protocol == _AUTHENTICATION:
        unit = 4 if protocol == _AUTHENTICATION else 8
        protocol, units = struct.unpack_from(">BB", packet, position)
        position += 8 + unit * units
    return protocol, position
