"""Frames and capture files built with plain struct, independent of the code they test.

Everything is bytes, written from the outside in:

    packet = ipv4("10.18.24.1", "10.18.22.12", UDP, udp(4242, 53, dns_query("www.example.com")))
    path.write_bytes(pcap([(TIME, ethernet(packet))]))
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Link types of the tcpdump registry.
NULL, ETHERNET, RAW, LOOP, SLL, IPV4, IPV6, SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
#: IP protocol numbers.
HOP_BY_HOP, ICMP, IPIP, TCP, UDP, IP6, ROUTING, FRAGMENT, GRE, AH, DEST_OPTIONS = (
    0, 1, 4, 6, 17, 41, 43, 44, 47, 51, 60,
)  # fmt: skip
#: TCP flags.
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
#: Times are nanoseconds since the epoch; this one is 2026-03-02 08:00:00.123456789 UTC.
TIME = 1_772_438_400_123_456_789

CLIENT_MAC, SERVER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")

#: A domain name: text (dots part the labels), labels, or whatever bytes a test wants on the wire.
Name = Union[str, "Sequence[bytes]", bytes]


# Link layers


def ethernet(
    packet: bytes,
    ether_type: int | None = None,
    *,
    src: bytes = CLIENT_MAC,
    dst: bytes = SERVER_MAC,
) -> bytes:
    """Wrap a packet in an Ethernet II header; the type is that of the packet's IP version."""
    return dst + src + struct.pack("!H", ether_type or _ether_type(packet)) + packet


def vlan(frame: bytes, vid: int = 10, *, tpid: int = 0x8100) -> bytes:
    """Insert an outermost 802.1Q (or, by `tpid` 0x88A8, 802.1ad) tag in an Ethernet frame."""
    return frame[:12] + struct.pack("!HH", tpid, vid) + frame[12:]


def sll(packet: bytes, ether_type: int | None = None, *, packet_type: int = 0) -> bytes:
    """Wrap a packet in a Linux cooked v1 header (LINKTYPE_LINUX_SLL)."""
    head = struct.pack("!HHH8s", packet_type, 1, 6, CLIENT_MAC)
    return head + struct.pack("!H", ether_type or _ether_type(packet)) + packet


def sll2(packet: bytes, ether_type: int | None = None, *, packet_type: int = 0) -> bytes:
    """Wrap a packet in a Linux cooked v2 header (LINKTYPE_LINUX_SLL2)."""
    kind = ether_type or _ether_type(packet)
    return struct.pack("!HHIHBB8s", kind, 0, 2, 1, packet_type, 6, CLIENT_MAC) + packet


def null_loopback(packet: bytes, *, byte_order: str = "<", family: int | None = None) -> bytes:
    """Wrap a packet in a BSD loopback header: LINKTYPE_NULL, or LINKTYPE_LOOP with order `!`."""
    if family is None:
        family = 2 if packet[0] >> 4 == 4 else 30
    return struct.pack(byte_order + "I", family) + packet


def mpls(packet: bytes, *labels: int) -> bytes:
    """Put MPLS labels (outermost first) before a packet; goes in Ethernet type 0x8847."""
    last = len(labels) - 1
    return b"".join(
        struct.pack("!I", label << 12 | (i == last) << 8 | 64) for i, label in enumerate(labels)
    ) + packet  # fmt: skip


def pppoe(packet: bytes, *, session: int = 1) -> bytes:
    """Put PPPoE session and PPP headers before a packet; goes in Ethernet type 0x8864."""
    protocol = 0x0021 if packet[0] >> 4 == 4 else 0x0057
    return struct.pack("!BBHHH", 0x11, 0, session, len(packet) + 2, protocol) + packet


# Internet layer


def ipv4(
    src: str,
    dst: str,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    ident: int = 0,
    frag_off: int = 0,
    more: bool = False,
    total_length: int | None = None,
) -> bytes:
    """Build an IPv4 packet. `frag_off` counts bytes; options are padded to 4 bytes.

    The checksum of a whole UDP or TCP payload is filled in when it is 0.
    """
    addresses = packed(src) + packed(dst)
    if not frag_off and not more:
        payload = _with_checksum(addresses, protocol, payload)
    options += bytes(-len(options) % 4)
    size = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH8s",
        0x40 | size // 4,
        0,
        size + len(payload) if total_length is None else total_length,
        ident,
        more << 13 | frag_off // 8,
        64,
        protocol,
        0,
        addresses,
    )
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(
    src: str,
    dst: str,
    protocol: int,
    payload: bytes,
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    payload_length: int | None = None,
) -> bytes:
    """Build an IPv6 packet.

    `extensions` are (header number, header bytes) in order, as `options_header` and
    `fragment_header` make them; their first byte is set to the number of what follows.
    The checksum of a whole UDP or TCP payload is filled in when it is 0.
    """
    addresses = packed(src) + packed(dst)
    if all(number != FRAGMENT for number, _ in extensions):
        payload = _with_checksum(addresses, protocol, payload)
    following = protocol
    for number, header in reversed(extensions):
        payload = bytes((following,)) + header[1:] + payload
        following = number
    length = len(payload) if payload_length is None else payload_length
    return struct.pack("!IHBB", 0x60000000, length, following, 64) + addresses + payload


def options_header(units: int = 0) -> bytes:
    """Make a hop-by-hop, destination options or routing header of 8 + 8 * `units` bytes."""
    size = 8 + 8 * units
    return bytes((0, units, 1, size - 4)) + bytes(size - 4)


def authentication_header() -> bytes:
    """Make an authentication header (RFC 4302), whose length counts 4-byte words less 2."""
    return bytes((0, 4)) + bytes(22)


def fragment_header(frag_off: int, *, more: bool, ident: int = 1) -> bytes:
    """Make an IPv6 fragment header; `frag_off` counts bytes."""
    return struct.pack("!BBHI", 0, 0, frag_off | more, ident)


def gre(payload: bytes, protocol: int | None = None, *, key: int | None = None) -> bytes:
    """Wrap a packet in a GRE header (RFC 2784, 2890); goes in IP protocol 47."""
    kind = protocol or _ether_type(payload)
    if key is None:
        return struct.pack("!HH", 0, kind) + payload
    return struct.pack("!HHI", 0x2000, kind, key) + payload


def vxlan(frame: bytes, vni: int = 1) -> bytes:
    """Wrap an Ethernet frame in a VXLAN header (RFC 7348); goes in UDP port 4789."""
    return struct.pack("!II", 0x08000000, vni << 8) + frame


# Transport layer


def udp(sport: int, dport: int, payload: bytes, *, length: int | None = None) -> bytes:
    """Build a UDP datagram; `ipv4` and `ipv6` fill in its checksum."""
    size = 8 + len(payload) if length is None else length
    return struct.pack("!HHHH", sport, dport, size, 0) + payload


def tcp(
    sport: int,
    dport: int,
    seq: int,
    flags: int = ACK | PSH,
    payload: bytes = b"",
    *,
    ack: int = 0,
    options: bytes = b"",
) -> bytes:
    """Build a TCP segment; `ipv4` and `ipv6` fill in its checksum."""
    options += bytes(-len(options) % 4)
    offset = (20 + len(options)) << 2
    seq &= 0xFFFFFFFF
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset, flags, 64240, 0, 0)
    return head + options + payload


# DNS


def wire_name(name: Name) -> bytes:
    """Encode a name: text and labels get their lengths and the root; bytes stay as they are."""
    if isinstance(name, bytes):
        return name
    labels = (
        [label.encode() for label in name.split(".") if label] if isinstance(name, str) else name
    )
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def dns_query(
    name: Name = "www.example.com",
    qtype: int = 1,
    qclass: int = 1,
    *,
    txid: int = 0x1234,
    flags: int = 0x0100,
    qdcount: int = 1,
    edns: int | None = None,
    raw: bytes = b"",
) -> bytes:
    """Build a DNS query message.

    `edns` is the UDP size of an OPT record (RFC 6891) to add; `raw` is appended as it is.
    """
    head = struct.pack("!HHHHHH", txid, flags, qdcount, 0, 0, edns is not None)
    question = wire_name(name) + struct.pack("!HH", qtype, qclass)
    opt = b"" if edns is None else struct.pack("!BHHIH", 0, 41, edns, 0, 0)
    return head + question + opt + raw


def dns_response(query: bytes, *records: tuple[int, bytes], rcode: int = 0) -> bytes:
    """Answer a one-question query without additional records with (type, data) records."""
    flags = 0x8180 | rcode
    head = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    return head + query[12:] + b"".join(
        struct.pack("!HHHIH", 0xC00C, kind, 1, 300, len(data)) + data for kind, data in records
    )  # fmt: skip


def framed(message: bytes) -> bytes:
    """Put the two-byte length before a message, as DNS over TCP does (RFC 1035 section 4.2.2)."""
    return struct.pack("!H", len(message)) + message


# Capture files


def pcap(
    frames: Iterable[tuple[int, bytes]],
    *,
    byte_order: str = "<",
    nano: bool = False,
    link_type: int = ETHERNET,
    snap_length: int = 262144,
    version: tuple[int, int] = (2, 4),
) -> bytes:
    """Build a pcap file of (time_ns, frame)."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    head = struct.pack(byte_order + "IHHiIII", magic, *version, 0, 0, snap_length, link_type)
    return head + b"".join(
        pcap_record(*frame, byte_order=byte_order, nano=nano) for frame in frames
    )


def pcap_record(
    time_ns: int,
    frame: bytes,
    *,
    byte_order: str = "<",
    nano: bool = False,
    wire: int | None = None,
) -> bytes:
    """Build one record of a pcap file; `wire` is the length before the snap length cut it."""
    seconds, rest = divmod(time_ns, 10**9)
    size = len(frame)
    length = size if wire is None else wire
    head = struct.pack(byte_order + "IIII", seconds, rest if nano else rest // 1000, size, length)
    return head + frame


def pcapng(
    frames: Iterable[tuple[int, bytes]],
    *,
    byte_order: str = "<",
    link_type: int = ETHERNET,
    tsresol: int | None = None,
    tsoffset: int = 0,
) -> bytes:
    """Build a pcapng file of one section and one interface out of (time_ns, frame)."""
    head = section(byte_order=byte_order)
    head += interface(link_type, byte_order=byte_order, tsresol=tsresol, tsoffset=tsoffset)
    return head + b"".join(
        enhanced_packet(
            units(time_ns - tsoffset * 10**9, 6 if tsresol is None else tsresol),
            frame,
            byte_order=byte_order,
        )
        for time_ns, frame in frames
    )


def units(time_ns: int, tsresol: int) -> int:
    """Convert nanoseconds to the units of an `if_tsresol` byte, rounding down."""
    per_second = 1 << (tsresol & 0x7F) if tsresol & 0x80 else 10**tsresol
    return time_ns * per_second // 10**9


def block(kind: int, body: bytes, *, byte_order: str = "<") -> bytes:
    """Build a pcapng block; the body is padded to 4 bytes."""
    body += bytes(-len(body) % 4)
    length = struct.pack(byte_order + "I", 12 + len(body))
    return struct.pack(byte_order + "I", kind) + length + body + length


def option(code: int, value: bytes, *, byte_order: str = "<") -> bytes:
    """Build a pcapng option; the value is padded to 4 bytes."""
    return struct.pack(byte_order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(*, byte_order: str = "<", version: tuple[int, int] = (1, 0)) -> bytes:
    """Build a Section Header Block."""
    body = struct.pack(byte_order + "IHHq", 0x1A2B3C4D, *version, -1)
    return block(0x0A0D0D0A, body, byte_order=byte_order)


def interface(
    link_type: int = ETHERNET,
    *,
    byte_order: str = "<",
    snap_length: int = 262144,
    tsresol: int | None = None,
    tsoffset: int = 0,
) -> bytes:
    """Build an Interface Description Block."""
    body = struct.pack(byte_order + "HHI", link_type, 0, snap_length)
    if tsresol is not None:
        body += option(9, bytes((tsresol,)), byte_order=byte_order)
    if tsoffset:
        body += option(14, struct.pack(byte_order + "q", tsoffset), byte_order=byte_order)
    return block(1, body + option(0, b"", byte_order=byte_order), byte_order=byte_order)


def enhanced_packet(
    time: int, frame: bytes, *, byte_order: str = "<", interface_id: int = 0, options: bytes = b""
) -> bytes:
    """Build an Enhanced Packet Block; `time` is in the interface's units."""
    size = len(frame)
    head = struct.pack(
        byte_order + "IIIII", interface_id, time >> 32, time & 0xFFFFFFFF, size, size
    )
    body = head + frame + bytes(-size % 4) + options
    return block(6, body, byte_order=byte_order)


def simple_packet(frame: bytes, *, byte_order: str = "<", wire: int | None = None) -> bytes:
    """Build a Simple Packet Block: no time, always interface 0."""
    length = struct.pack(byte_order + "I", len(frame) if wire is None else wire)
    return block(3, length + frame, byte_order=byte_order)


def obsolete_packet(
    time: int, frame: bytes, *, byte_order: str = "<", interface_id: int = 0, drops: int = 0xFFFF
) -> bytes:
    """Build an obsolete Packet Block; `drops` 0xFFFF means that they are not known."""
    size = len(frame)
    head = struct.pack(
        byte_order + "HHIIII", interface_id, drops, time >> 32, time & 0xFFFFFFFF, size, size
    )
    return block(2, head + frame, byte_order=byte_order)


def interface_statistics(drops: int, *, byte_order: str = "<", interface_id: int = 0) -> bytes:
    """Build an Interface Statistics Block with isb_ifdrop."""
    body = struct.pack(byte_order + "III", interface_id, 0, 0)
    body += option(5, struct.pack(byte_order + "Q", drops), byte_order=byte_order)
    return block(5, body + option(0, b"", byte_order=byte_order), byte_order=byte_order)


# Numbers and addresses


@functools.lru_cache(maxsize=65536)
def packed(address: str) -> bytes:
    """Return the 4 or 16 bytes of an IP address."""
    return ipaddress.ip_address(address).packed


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071)."""
    return 0xFFFF - (int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF)


def _ether_type(packet: bytes) -> int:
    return 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800


def _with_checksum(addresses: bytes, protocol: int, payload: bytes) -> bytes:
    """Fill in the UDP or TCP checksum where it is 0 and the header is whole."""
    at = {UDP: 6, TCP: 16}.get(protocol)
    if at is None or len(payload) < at + 2 or payload[at : at + 2] != b"\0\0":
        return payload
    value = checksum(addresses + struct.pack("!HH", protocol, len(payload)) + payload) or 0xFFFF
    return payload[:at] + struct.pack("!H", value) + payload[at + 2 :]
