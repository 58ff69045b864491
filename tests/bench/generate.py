#!/usr/bin/env python3
"""Write a deterministic DNS capture for benchmarks: `generate.py FRAMES OUT [--seed N]`.

About 60 % queries and 40 % responses; names 70 % common (Zipf), 1 % watch-listed, 20 % random
long tail, the rest PTR and single labels; 15 % IPv6, 2 % VLAN, 2 % TCP, 1 % other UDP, EDNS on
80 % of the queries, mixed case in 2 %. Prints what was written as JSON.
"""

from __future__ import annotations

import argparse
import bisect
import csv
import itertools
import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import craft  # noqa: E402 - lies beside this folder, which is no package

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMON = (
    "google.com", "wikipedia.org", "microsoft.com", "apple.com", "amazon.com", "cloudflare.com",
    "debian.org", "python.org", "bbc.co.uk", "github.com", "mozilla.org", "office.com",
)  # fmt: skip
WATCH = ("malware.example", "c2.badhost.test", "phish.example.net")
PREFIXES = (
    "",
    "",
    "",
    "www.",
    "www.",
    "www.",
    "api.",
    "cdn.",
    "mail.",
    "static.",
    "img1.",
    "login.",
)
TAILS = (
    "cdn.example.net", "edge.example.com", "tracker.example.info", "telemetry.example.io",
    "shard1.example.ru", "shard2.example.cn", "shard3.example.de", "cloud.example.org",
)  # fmt: skip
SINGLES = ("", "wpad", "localhost", "printer", "isatap", "dc01.corp.test", "xn--bcher-kva.example")
TYPES = (1,) * 58 + (28,) * 23 + (65,) * 11 + (16,) * 3 + (15,) * 2 + (33, 2)
TYPE_NAMES = {1: "A", 28: "AAAA", 12: "PTR"}
OPT = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)


START = craft.TIME
MEAN_GAP = 50_000  # nanoseconds


def column(path: Path, default: tuple[str, ...]) -> list[str]:
    """Read the column `domain` of a list, or take the default where the file is not there."""
    if not path.is_file():
        return list(default)
    with path.open(encoding="utf-8", newline="") as file:
        return [row["domain"] for row in csv.DictReader(file) if row.get("domain")]


class Mix:
    """The traffic: an endless run of frames, and counts of what they are."""

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._common = column(ROOT / "lookups" / "dnsqmon_commonlist.csv", COMMON)
        self._watch = column(ROOT / "lookups" / "dnsqmon_watchlist.csv", WATCH)
        self._zipf = list(itertools.accumulate((i + 3) ** -0.95 for i in range(len(self._common))))
        self._asked: list[tuple[str, str, int, int, bytes, int]] = []
        self._clients = [f"10.18.{24 + i // 250}.{1 + i % 250}" for i in range(2000)]
        self._clients6 = [f"2001:db8:{i // 100:x}::{0x1000 + i * 7:x}" for i in range(400)]

    def frames(self) -> Iterator[bytes]:
        """Yield frames without end."""
        chance = self._random.random
        while True:
            kind = chance()
            if kind < 0.0034:  # six frames each, so 2 % of all
                yield from map(self._link, self._tcp_exchange())
            elif kind < 0.0136:
                yield self._link(self._other_udp())
            elif kind < 0.411 and self._asked:
                yield self._link(self._response())
            else:
                yield self._link(self._query())

    def _link(self, packet: bytes) -> bytes:
        self.counts["ipv4" if packet[0] >> 4 == 4 else "ipv6"] += 1
        frame = craft.ethernet(packet)
        if self._random.random() < 0.02:
            self.counts["vlan"] += 1
            frame = craft.vlan(frame, self._random.choice((10, 20, 30)))
        return frame.ljust(60, b"\0")

    def _ends(self) -> tuple[str, str]:
        draw = self._random.random()
        if draw < 0.15:
            return self._clients6[int(draw * 2666)], "2001:db8::53"
        if draw < 0.28:
            return "10.18.22.12", "192.0.2.53"
        return self._clients[int(self._random.random() * 2000)], "10.18.22.12"

    def _question(self) -> tuple[bytes, int]:
        """Draw a name and a type; give the question's wire form and the type."""
        draw, bits = self._random.random(), self._random.getrandbits
        qtype = TYPES[bits(16) % len(TYPES)]
        if draw < 0.70:
            place = bisect.bisect(self._zipf, self._random.random() * self._zipf[-1])
            name = PREFIXES[bits(8) % len(PREFIXES)] + self._common[place % len(self._common)]
        elif draw < 0.71:
            name = self._watch[bits(16) % len(self._watch)]
        elif draw < 0.91:
            label = f"{bits(64):x}" if bits(1) else f"{bits(120):030x}.{bits(32):x}"
            name = f"{label}.{TAILS[bits(3)]}"
        elif draw < 0.955:
            name, qtype = f"{bits(8)}.{bits(8)}.{bits(8)}.{bits(6) + 1}.in-addr.arpa", 12
        elif draw < 0.97:
            name, qtype = ".".join(f"{0x20010DB8 << 96 | bits(64):032x}"[::-1]) + ".ip6.arpa", 12
        else:
            name = SINGLES[bits(8) % len(SINGLES)]
        if self._random.random() < 0.02:
            self.counts["mixed_case"] += 1
            name = "".join(c.upper() if bits(1) else c for c in name)
        self.counts[TYPE_NAMES.get(qtype, "other_type")] += 1
        return craft.wire_name(name) + struct.pack("!HH", qtype, 1), qtype

    def _message(self) -> tuple[int, bytes, int, bytes]:
        """Make a query; give its ID, question, type and the whole message."""
        question, qtype = self._question()
        txid = self._random.getrandbits(16)
        edns = self._random.random() < 0.80
        head = struct.pack("!HHHHHH", txid, 0x0100, 1, 0, 0, edns)
        return txid, question, qtype, head + question + (OPT if edns else b"")

    def _query(self) -> bytes:
        client, server = self._ends()
        txid, question, qtype, message = self._message()
        port = 1024 + self._random.getrandbits(15)
        self.counts["udp_queries"] += 1
        if len(self._asked) < 4096:
            self._asked.append((client, server, port, txid, question, qtype))
        return packet(client, server, craft.UDP, craft.udp(port, 53, message))

    def _response(self) -> bytes:
        place = self._random.getrandbits(12) % len(self._asked)
        self._asked[place], self._asked[-1] = self._asked[-1], self._asked[place]
        client, server, port, txid, question, qtype = self._asked.pop()
        self.counts["udp_responses"] += 1
        answer = self._answer(txid, question, qtype)
        return packet(server, client, craft.UDP, craft.udp(53, port, answer))

    def _answer(self, txid: int, question: bytes, qtype: int) -> bytes:
        size = {1: 4, 28: 16}.get(qtype)
        if size is None:
            return struct.pack("!HHHHHH", txid, 0x8183, 1, 0, 0, 0) + question
        record = struct.pack("!HHHIH", 0xC00C, qtype, 1, 300, size)
        data = self._random.getrandbits(8 * size).to_bytes(size, "big")
        return struct.pack("!HHHHHH", txid, 0x8180, 1, 1, 0, 0) + question + record + data

    def _other_udp(self) -> bytes:
        client, server = self._ends()
        self.counts["other_udp"] += 1
        port = self._random.choice((123, 443, 161, 3478))
        payload = self._random.getrandbits(384).to_bytes(48, "big")
        return packet(client, server, craft.UDP, craft.udp(40000, port, payload))

    def _tcp_exchange(self) -> list[bytes]:
        """Make a connection's six packets: handshake, query, response, FIN."""
        client, server = self._ends()
        txid, question, qtype, query = self._message()
        port = 32768 + self._random.getrandbits(14)
        near, far = self._random.getrandbits(31), self._random.getrandbits(31)
        self.counts["tcp_frames"] += 6
        self.counts["tcp_queries"] += 1
        query = craft.framed(query)
        answer = craft.framed(self._answer(txid, question, qtype))
        asked, answered = near + 1 + len(query), far + 1 + len(answer)

        def out(seq: int, flags: int, payload: bytes = b"", *, ack: int = 0) -> bytes:
            segment = craft.tcp(port, 53, seq, flags, payload, ack=ack)
            return packet(client, server, craft.TCP, segment)

        def back(seq: int, flags: int, payload: bytes = b"", *, ack: int = 0) -> bytes:
            segment = craft.tcp(53, port, seq, flags, payload, ack=ack)
            return packet(server, client, craft.TCP, segment)

        return [
            out(near, craft.SYN),
            back(far, craft.SYN | craft.ACK, ack=near + 1),
            out(near + 1, craft.ACK, ack=far + 1),
            out(near + 1, craft.ACK | craft.PSH, query, ack=far + 1),
            back(far + 1, craft.ACK | craft.PSH, answer, ack=asked),
            out(asked, craft.ACK | craft.FIN, ack=answered),
        ]


def packet(src: str, dst: str, protocol: int, payload: bytes) -> bytes:
    """Wrap a payload in the IP version of its addresses."""
    return (craft.ipv6 if ":" in src else craft.ipv4)(src, dst, protocol, payload)


def write(path: Path, count: int, seed: int) -> dict[str, int]:
    """Write `count` frames to a pcap file; give counts of what they are."""
    mix = Mix(seed)
    gaps = random.Random(seed + 1)
    time_ns = START
    with path.open("wb", buffering=1 << 20) as file:
        file.write(craft.pcap([]))
        for frame in itertools.islice(mix.frames(), count):
            time_ns += int(gaps.random() * 2 * MEAN_GAP) + 1
            file.write(craft.pcap_record(time_ns, frame))
    return {"frames": count, "bytes": path.stat().st_size, "seed": seed, **sorted_counts(mix)}


def sorted_counts(mix: Mix) -> dict[str, int]:
    """Return the counts in the order of their names."""
    return dict(sorted(mix.counts.items()))


def main() -> None:
    """Read the command line, write the file, print the counts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("frames", type=int, metavar="FRAMES")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--seed", type=int, default=2013)
    args = parser.parse_args()
    json.dump(write(args.out, args.frames, args.seed), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
