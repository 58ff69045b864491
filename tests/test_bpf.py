"""The filter for the chosen ports, run by the kernel on frames that cross a real interface."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

import pytest

from craft import (
    AH,
    DEST_OPTIONS,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    ICMP,
    IPIP,
    ROUTING,
    SYN,
    TCP,
    UDP,
    authentication_header,
    dns_query,
    ethernet,
    fragment_header,
    gre,
    ipv4,
    ipv6,
    mpls,
    options_header,
    pppoe,
    tcp,
    udp,
    vlan,
    vxlan,
)
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ConfigError
from dnsqmon.core.record import FrameBatch
from dnsqmon.decode.decoder import Decoder
from dnsqmon.sources.bpf import EXTENSION_HEADERS, TAGS, port_filter
from dnsqmon.sources.capture_file import CaptureFile
from dnsqmon.sources.ring import Ring
from namespaces import veth_pair
from needs import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dnsqmon.sources.bpf_assembler import Instruction
    from namespaces import Namespace

SNAP = 65535
LONGEST = 9014  # the MTU of the test's interfaces, and an Ethernet header

QUERY = dns_query("www.example.com")
V4 = ("198.51.100.1", "198.51.100.2")
V6 = ("2001:db8:1::1", "2001:db8:1::2")
TO_53 = udp(4242, 53, QUERY)
PACKET4, PACKET6 = ipv4(*V4, UDP, TO_53), ipv6(*V6, UDP, TO_53)
SNAP_HEADER = bytes.fromhex("aaaa03000000")
BLOCK = options_header()


def _tagged(count: int) -> bytes:
    frame = ethernet(PACKET4)
    for _ in range(count):
        frame = vlan(frame)
    return frame


def _chained(count: int, transport: bytes = TO_53) -> bytes:
    return ethernet(ipv6(*V6, UDP, transport, extensions=[(DEST_OPTIONS, BLOCK)] * count))


class Case(NamedTuple):
    """A frame, and whether the filter for port 53 is to let it in."""

    frame: bytes
    accepted: bool


CASES = {
    "udp to 53": Case(ethernet(PACKET4), True),
    "udp from 53": Case(ethernet(ipv4(*V4, UDP, udp(53, 4242, QUERY))), True),
    "tcp to 53": Case(ethernet(ipv4(*V4, TCP, tcp(4242, 53, 1, SYN))), True),
    "tcp from 53": Case(ethernet(ipv4(*V4, TCP, tcp(53, 4242, 1))), True),
    "udp to 54": Case(ethernet(ipv4(*V4, UDP, udp(4242, 54, QUERY))), False),
    "tcp to 54": Case(ethernet(ipv4(*V4, TCP, tcp(4242, 54, 1))), False),
    "icmp": Case(ethernet(ipv4(*V4, ICMP, bytes(8) + PACKET4)), False),
    "options": Case(ethernet(ipv4(*V4, UDP, TO_53, options=bytes(40))), True),
    "options, port 54": Case(
        ethernet(ipv4(*V4, UDP, udp(4242, 54, QUERY), options=b"\0\x35" * 20)), False
    ),
    "first fragment": Case(ethernet(ipv4(*V4, UDP, TO_53[:16], more=True)), True),
    "first fragment, port 54": Case(
        ethernet(ipv4(*V4, UDP, udp(4242, 54, QUERY)[:16], more=True)), False
    ),
    "later fragment": Case(ethernet(ipv4(*V4, UDP, TO_53[16:], frag_off=16)), True),
    "later fragment of icmp": Case(ethernet(ipv4(*V4, ICMP, bytes(16), frag_off=16)), False),
    "arp": Case(ethernet(bytes(28), 0x0806), False),
    "cut off in the header": Case(ethernet(PACKET4[:15], 0x0800), False),
    "cut off before the ports": Case(ethernet(PACKET4[:20], 0x0800), False),
    "ipv6 udp": Case(ethernet(PACKET6), True),
    "ipv6 tcp": Case(ethernet(ipv6(*V6, TCP, tcp(4242, 53, 1))), True),
    "ipv6 udp to 54": Case(ethernet(ipv6(*V6, UDP, udp(4242, 54, QUERY))), False),
    "ipv6 icmp": Case(ethernet(ipv6(*V6, 58, bytes(8) + PACKET6)), False),
    "ipv6 no next header": Case(ethernet(ipv6(*V6, 59, TO_53)), False),
    "ipv6 each extension header": Case(
        ethernet(
            ipv6(
                *V6,
                UDP,
                TO_53,
                extensions=[
                    (HOP_BY_HOP, options_header(1)),
                    (ROUTING, options_header(2)),
                    (FRAGMENT, fragment_header(0, more=False)),
                    (AH, authentication_header()),
                    (DEST_OPTIONS, BLOCK),
                ],
            )
        ),
        True,
    ),
    "ipv6 first fragment": Case(
        ethernet(
            ipv6(*V6, UDP, TO_53[:16], extensions=[(FRAGMENT, fragment_header(0, more=True))])
        ),
        True,
    ),
    "ipv6 later fragment": Case(
        ethernet(
            ipv6(*V6, UDP, TO_53[16:], extensions=[(FRAGMENT, fragment_header(16, more=False))])
        ),
        True,
    ),
    "ipv6 as many headers as looked past": Case(_chained(EXTENSION_HEADERS), True),
    "ipv6 as many headers, port 54": Case(_chained(EXTENSION_HEADERS, udp(4242, 54, QUERY)), False),
    "ipv6 more headers": Case(_chained(EXTENSION_HEADERS + 1), True),
    "one tag": Case(_tagged(1), True),
    "one tag, port 54": Case(vlan(ethernet(ipv4(*V4, UDP, udp(4242, 54, QUERY)))), False),
    "one tag, ipv6": Case(vlan(ethernet(PACKET6)), True),
    "802.1ad": Case(vlan(vlan(ethernet(PACKET6)), 7, tpid=0x88A8), True),
    "as many tags as looked past": Case(_tagged(TAGS + 1), True),
    "more tags": Case(_tagged(TAGS + 2), True),
    "two tags, arp": Case(vlan(vlan(ethernet(bytes(28), 0x0806))), False),
    "snap": Case(ethernet(SNAP_HEADER + b"\x08\x00" + PACKET4, 8 + len(PACKET4)), True),
    "snap, tag": Case(vlan(ethernet(SNAP_HEADER + b"\x86\xdd" + PACKET6, 8 + len(PACKET6))), True),
    "snap, arp": Case(ethernet(SNAP_HEADER + b"\x08\x06" + bytes(28), 36), False),
    "llc, spanning tree": Case(ethernet(b"\x42\x42\x03" + bytes(35), 38), False),
    "gre": Case(ethernet(ipv4(*V4, GRE, gre(PACKET4))), False),
    "ip in ip": Case(ethernet(ipv4(*V4, IPIP, PACKET4)), False),
    "vxlan": Case(ethernet(ipv4(*V4, UDP, udp(4242, 4789, vxlan(ethernet(PACKET4))))), False),
    "mpls": Case(ethernet(mpls(PACKET4, 16), 0x8847), False),
    "pppoe": Case(ethernet(pppoe(PACKET4), 0x8864), False),
}


@pytest.fixture(name="wire", scope="module")
def _wire() -> Iterator[tuple[Namespace, Namespace]]:
    """Return the two ends of a cable."""
    need_root()
    need("ip")
    with veth_pair() as ends:
        yield ends


def _accepted(
    wire: tuple[Namespace, Namespace], program: Sequence[Instruction], frames: Sequence[bytes]
) -> list[bytes]:
    """Send frames over the wire; give those that passed the program at the far end."""
    near, far = wire

    def listen() -> Ring:
        ring = Ring(program, 64, 10, once=False)
        ring.bind(socket.if_nametoindex("eth0"))
        return ring

    ring = far.call(listen)
    try:
        near.send_frames("eth0", frames)
        ring.shut()
        ring.read_statistics()
        assert ring.dropped == 0
        packets: list[bytes] = []
        while ring.read < ring.captured:
            packets += [frame[12:] for _, frame in ring.read_block() or []]
    finally:
        ring.close()
    sent = iter(frames)
    return [next(frame for frame in sent if _as_received(frame) == packet) for packet in packets]


def _as_received(frame: bytes) -> bytes:
    """Cut a frame as the socket shows it: from the EtherType on, without the outermost tag."""
    return frame[16:] if frame[12:14] in (b"\x81\x00", b"\x88\xa8") else frame[12:]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_packets_of_the_ports_and_no_others_pass(
    wire: tuple[Namespace, Namespace], case: Case
) -> None:
    """DNS passes under options, fragments, extension headers and tags; the rest stays outside."""
    passed = _accepted(wire, port_filter([53], SNAP), [case.frame])
    assert passed == [case.frame] * case.accepted


def test_what_holds_a_query_passes_at_every_length(wire: tuple[Namespace, Namespace]) -> None:
    """However a frame is cut, the filter keeps nothing from the decoder that holds a query."""
    whole = [case.frame for case in CASES.values() if case.accepted]
    frames = [frame[:length] for frame in whole for length in range(14, len(frame) + 1)]
    _no_query_was_rejected(frames, _accepted(wire, port_filter([53], SNAP), frames))


def test_real_captures_lose_nothing_but_tunnels(
    wire: tuple[Namespace, Namespace], corpus: Path
) -> None:
    """Of the frames of real captures that are rejected, none holds a query outside of a tunnel."""
    frames = [
        frame
        for path in sorted(corpus.rglob("*.pcap*"))
        if not path.name.startswith("notpcap")
        for batch in _batches(path)
        if batch.link_type == 1
        for _, frame in batch.frames
        if 14 <= len(frame) <= LONGEST
    ]
    assert len(frames) > 10_000
    program = port_filter([53], SNAP)
    for start in range(0, len(frames), 20_000):
        part = frames[start : start + 20_000]
        _no_query_was_rejected(part, _accepted(wire, program, part))


def _batches(path: Path) -> Iterator[FrameBatch]:
    with contextlib.closing(CaptureFile(str(path))) as source:
        yield from source.batches()


def _no_query_was_rejected(frames: Sequence[bytes], passed: Sequence[bytes]) -> None:
    decoder = Decoder([53], [1, 12, 28], Counters())
    remaining = iter(passed)
    expected = next(remaining, None)
    for frame in frames:
        if frame == expected:
            expected = next(remaining, None)
        elif decoder.decode(FrameBatch(1, [(0, frame)])):
            assert _is_tunnel(frame), frame.hex()
    assert expected is None


def _is_tunnel(frame: bytes) -> bool:
    """Say whether a frame is MPLS, PPPoE, or IP that carries IP, GRE or UDP of another port."""
    rest = frame[12:]
    while rest[:2] in (b"\x81\x00", b"\x88\xa8"):
        rest = rest[4:]
    ether_type, packet = rest[:2], rest[2:]
    if ether_type == b"\x08\x00":
        protocol, ports = packet[9], packet[4 * (packet[0] & 15) :][:4]
    elif ether_type == b"\x86\xdd":
        protocol, ports = packet[6], packet[40:44]
    else:
        return ether_type in (b"\x88\x47", b"\x88\x48", b"\x88\x64")
    return protocol in (4, 41, 47) or (
        protocol == UDP and b"\x00\x35" not in (ports[:2], ports[2:])
    )


def test_several_ports(wire: tuple[Namespace, Namespace]) -> None:
    """Each of many ports passes in both directions, its neighbours do not."""
    ports = list(range(1000, 1900, 2))
    frames = [
        ethernet(ipv4(*V4, UDP, udp(*pair, QUERY)))
        for port in range(998, 1903)
        for pair in ((port, 9), (9, port))
    ]
    expected = [frame for frame in frames if _port_of(frame) in ports]
    assert _accepted(wire, port_filter(ports, SNAP), frames) == expected


def _port_of(frame: bytes) -> int:
    return max(int.from_bytes(frame[34:36], "big"), int.from_bytes(frame[36:38], "big"))


def test_too_many_ports_are_refused() -> None:
    """More ports than a kernel program can hold are the user's mistake, with a way out."""
    with pytest.raises(ConfigError, match=r"--ports: 1200 are too many .* use --filter"):
        port_filter(range(1, 1201), SNAP)


def test_the_snap_length_cuts_what_passes(wire: tuple[Namespace, Namespace]) -> None:
    """A longer packet arrives cut to the snap length."""
    near, far = wire

    def listen() -> Ring:
        ring = Ring(port_filter([53], 60), 1, 10, once=False)
        ring.bind(socket.if_nametoindex("eth0"))
        return ring

    ring = far.call(listen)
    near.send_frames("eth0", [ethernet(PACKET6)])
    ring.shut()
    block = None
    while block is None:
        block = ring.read_block()
    ring.close()
    assert [frame for _, frame in block] == [ethernet(PACKET6)[:60]]
