"""Frames to queries: the quick way for what nearly all frames are, the full walk for the rest."""

from __future__ import annotations

import functools
import socket
import struct
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from dnsqmon.core.names import LABEL_WEIGHT, MAX_NAME, QUICK_TEXT, text_from_labels
from dnsqmon.core.record_types import ALL_TYPES, type_name
from dnsqmon.decode import link, network, tunnels
from dnsqmon.decode.fragments import Fragments
from dnsqmon.decode.message import Question, first_question
from dnsqmon.decode.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnsqmon.core.counters import Counters
    from dnsqmon.core.record import FrameBatch, Query

#: How many addresses are remembered with their text: about 15 MB when full.
MAX_ADDRESSES = 65536
#: Tunnels inside tunnels that are opened before a frame is given up.
MAX_DEPTH = 8

_PPPOE_SESSION = 0x8864


class _Layout(NamedTuple):
    """How to read a frame's link, IP, UDP and DNS headers in one go."""

    ipv4: Callable[[bytes], tuple[Any, ...]]
    ipv6: Callable[[bytes], tuple[Any, ...]]
    network_at: int
    #: The tag whose four octets may be taken off the front of the frame; -1 for none.
    vlan_tag: int


def _layout(link_header: str, network_at: int, vlan_tag: int) -> _Layout:
    """Lay out: EtherType | what tells a plain UDP datagram | addresses | UDP | start of DNS."""
    udp_and_dns = "HHH2xHHH6x"
    return _Layout(
        struct.Struct(f">{link_header}BxH2xHxB2x4s4s{udp_and_dns}").unpack_from,
        struct.Struct(f">{link_header.replace('H', '2x')}B3xHBx16s16s{udp_and_dns}").unpack_from,
        network_at,
        vlan_tag,
    )


_LAYOUTS = {
    1: _layout("12xH", 14, 0x8100),
    113: _layout("14xH", 16, 0x8100),
    276: _layout("H18x", 20, -1),
}


class Decoder:
    """Turns frames into queries, and counts every frame that is none.

    Names are not cached: a flood of random ones would only make the cache churn.
    """

    def __init__(self, ports: Iterable[int], types: Iterable[int], counters: Counters) -> None:
        self._ports = frozenset(ports)
        self._types = _type_names(frozenset(types))
        self._counters = counters
        self._fragments = Fragments(counters)
        self._streams = Streams(counters)
        self._addresses: dict[bytes, str] = {}

    def decode(self, batch: FrameBatch) -> list[Query]:
        """Return the queries of a batch, in the order in which they were complete."""
        counters = self._counters
        counters.packets += len(batch.frames)
        layout = _LAYOUTS.get(batch.link_type)
        queries: list[Query] = []
        if layout is None:
            for time_ns, frame in batch.frames:
                self._walk(time_ns, batch.link_type, frame, queries)
            return queries

        read_ipv4, read_ipv6, network_at = layout.ipv4, layout.ipv6, layout.network_at
        question4_at, question6_at = network_at + 20 + 8 + 12, network_at + 40 + 8 + 12
        link_type, vlan_tag, walk = batch.link_type, layout.vlan_tag, self._walk
        ports, type_names, name_text = self._ports, self._types.get, QUICK_TEXT
        weight = LABEL_WEIGHT
        known_address, new_address = self._addresses.get, self._address
        append = queries.append
        responses = other_types = 0
        for time_ns, frame in batch.frames:
            try:
                (
                    ethertype, version, length, fragment, protocol, src, dst,
                    src_port, dst_port, udp_length, transaction_id, flags, questions,
                ) = read_ipv4(frame)  # fmt: skip
                if ethertype == vlan_tag:  # behind one tag all lies as it does without
                    frame = frame[4:]  # noqa: PLW2901
                    (
                        ethertype, version, length, fragment, protocol, src, dst,
                        src_port, dst_port, udp_length, transaction_id, flags, questions,
                    ) = read_ipv4(frame)  # fmt: skip
                if ethertype == 0x0800:
                    # No options, no fragment, and the lengths agree.
                    plain = version == 0x45 and not fragment & 0x3FFF and length == udp_length + 20
                    position = question4_at
                    end = network_at + length
                elif ethertype == 0x86DD:
                    (
                        version, length, protocol, src, dst,
                        src_port, dst_port, udp_length, transaction_id, flags, questions,
                    ) = read_ipv6(frame)  # fmt: skip
                    plain = length == udp_length and version >> 4 == 6
                    position = question6_at
                    end = network_at + 40 + length
                else:
                    plain = False
                if plain and protocol == 17 and (dst_port in ports or src_port in ports):
                    if flags & 0x8000 and position <= end:
                        responses += 1
                        continue
                    octets = frame[position]
                    start = position + 1
                    labels = 0
                    while octets:
                        labels += weight[octets]
                        position += octets + 1
                        octets = frame[position]
                    if (
                        questions
                        and flags < 0x0800
                        and position - start < 254
                        and position + 5 <= end
                        and position + 5 <= len(frame)
                    ):
                        record_type = type_names(frame[position + 1 : position + 3])
                        if record_type is None and labels < MAX_NAME:
                            other_types += 1
                            continue
                        domain = frame[start:position].translate(name_text).decode("ascii")
                        if record_type and domain.count(".") == labels - 1:
                            append((
                                time_ns,
                                known_address(src) or new_address(src), src_port,
                                known_address(dst) or new_address(dst), dst_port,
                                record_type, domain, labels, "udp", transaction_id,
                            ))  # fmt: skip
                            continue
            except (struct.error, IndexError, UnicodeDecodeError):
                pass  # not as plain as it looked: the full walk says what it is
            walk(time_ns, link_type, frame, queries)
        counters.reasons["response"] += responses
        counters.reasons["other_type"] += other_types
        return queries

    def finish(self) -> None:
        """Count fragments and segments that still wait as lost: nothing more will come."""
        self._fragments.finish()
        self._streams.finish()

    def _walk(self, time_ns: int, link_type: int, frame: bytes, queries: list[Query]) -> None:
        """Decode any frame, layer by layer; append its queries or count why it has none."""
        packet = link.strip_link(link_type, frame)
        reason = "link_type" if packet is None else self._open(time_ns, packet, queries)
        if reason:
            self._counters.reasons[reason] += 1

    def _open(self, time_ns: int, packet: link.Packet, queries: list[Query]) -> str | None:
        """Open the layers of a packet; a reason to count the frame under, None if it is counted."""
        inner: link.Packet | None = packet
        for _ in range(MAX_DEPTH):
            if inner is None:
                return "tunnel"
            ethertype, data = inner
            if ethertype in tunnels.MPLS:
                inner = tunnels.mpls(data)
                continue
            if ethertype == _PPPOE_SESSION:
                inner = link.pppoe(data)
                continue
            if ethertype not in (link.IPV4, link.IPV6):
                return "not_ip"
            datagram = network.read_datagram(ethertype, data)
            if isinstance(datagram, str):
                return datagram
            if datagram.fragment:
                whole = self._fragments.add(datagram, time_ns)
                if whole is None:
                    return None
                datagram = network.unfragmented(datagram, whole)
            protocol, payload = datagram.protocol, datagram.payload
            if protocol == network.UDP:
                open_tunnel = tunnels.IN_UDP.get(payload[2:4])
                if open_tunnel is None or self._is_chosen(payload):
                    return self._udp(time_ns, datagram, queries)
                inner = open_tunnel(payload[8:])
            elif protocol == network.TCP:
                return self._tcp(time_ns, datagram, queries)
            elif protocol in tunnels.IP_IN_IP:
                inner = (tunnels.IP_IN_IP[protocol], payload)
            elif protocol == tunnels.GRE:
                inner = tunnels.gre(payload)
            else:
                return "other_protocol"
        return "tunnel"

    def _is_chosen(self, payload: bytes) -> bool:
        """Say whether one of the two ports is a chosen one: a client's may be that of a tunnel."""
        src_port, dst_port = struct.unpack_from(">HH", payload)
        return dst_port in self._ports or src_port in self._ports

    def _udp(self, time_ns: int, datagram: network.Datagram, queries: list[Query]) -> str | None:
        """Read the UDP header (RFC 768) and the message behind it."""
        payload = datagram.payload
        if len(payload) < 8:
            return "truncated" if datagram.cut else "malformed"
        src_port, dst_port, length = struct.unpack_from(">HHH", payload)
        if dst_port not in self._ports and src_port not in self._ports:
            return "other_port"
        if length < 8 or (length > len(payload) and not datagram.cut):
            return "malformed"
        question = first_question(payload[8:length], cut=datagram.cut)
        if isinstance(question, str):
            return question
        return self._query(time_ns, datagram, (src_port, dst_port, "udp"), question, queries)

    def _tcp(self, time_ns: int, datagram: network.Datagram, queries: list[Query]) -> str | None:
        """Read the TCP header (RFC 9293) and the messages that its segment completes."""
        payload = datagram.payload
        if len(payload) < 20:
            return "truncated" if datagram.cut else "malformed"
        src_port, dst_port, sequence = struct.unpack_from(">HHI", payload)
        if dst_port not in self._ports and src_port not in self._ports:
            return "other_port"
        header = (payload[12] >> 4) * 4
        if header < 20 or (header > len(payload) and not datagram.cut):
            return "malformed"
        flow = (datagram.src, src_port, datagram.dst, dst_port)
        to_client = dst_port not in self._ports
        messages = self._streams.add(
            flow, sequence, payload[13], payload[header:], to_client=to_client
        )
        if not isinstance(messages, list):
            return messages
        self._counters.pipelined += len(messages) - 1
        outcomes: list[str | None] = []
        for message in messages:
            question = first_question(message)
            if isinstance(question, str):
                outcomes.append(question)
            else:
                ports = (src_port, dst_port, "tcp")
                outcomes.append(self._query(time_ns, datagram, ports, question, queries))
        for reason in filter(None, outcomes[1:]):
            self._counters.reasons[reason] += 1
        return outcomes[0]

    def _query(
        self,
        time_ns: int,
        datagram: network.Datagram,
        ports: tuple[int, int, str],
        question: Question,
        queries: list[Query],
    ) -> str | None:
        """Append the query of a question, or give the reason that nobody asked for it."""
        record_type = self._types.get(question.type_number.to_bytes(2, "big"))
        if record_type is None:
            return "other_type"
        src_port, dst_port, transport = ports
        queries.append((
            time_ns, self._address(datagram.src), src_port, self._address(datagram.dst), dst_port,
            record_type, text_from_labels(question.labels), len(question.labels) or 1, transport,
            question.transaction_id,
        ))  # fmt: skip
        return None

    def _address(self, octets: bytes) -> str:
        """Return an address's text as inet_ntop writes it."""
        text = self._addresses.get(octets)
        if text is None:
            if len(self._addresses) >= MAX_ADDRESSES:
                self._addresses.clear()
            family = socket.AF_INET if len(octets) == 4 else socket.AF_INET6
            text = self._addresses[octets] = socket.inet_ntop(family, octets)
        return text


@functools.lru_cache(maxsize=8)
def _type_names(types: frozenset[int]) -> dict[bytes, str]:
    """Map the two octets of each chosen type to its name; shared, read only."""
    numbers = range(65536) if ALL_TYPES in types else sorted(types)
    return {number.to_bytes(2, "big"): type_name(number) for number in numbers}
