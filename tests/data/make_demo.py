#!/usr/bin/env python3
"""Make demo.pcap, an invented office day with things to find: `make_demo.py [OUT]`.

The network is 10.18.0.0/16 with the resolver 10.18.22.12. To be found in it: watch-listed names,
one of them every ten minutes (a beacon), a DNS tunnel, a burst of generated names, a sweep of PTR
queries, a client that goes past the resolver. Suspicious names are reserved ones (RFC 2606, 6761)
but for the generated, which are random. The same bytes at each run.
"""

from __future__ import annotations

import base64
import random
import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import craft

RESOLVER, RESOLVER6 = "10.18.22.12", "fd18:22::12"
UPSTREAM, OUTSIDE = "192.0.2.53", "203.0.113.8"
CLIENTS = tuple(f"10.18.{net}.{host}" for net in (23, 24) for host in (35, 40, 57, 66, 77, 123))
CLIENTS6 = ("fd18:23::35", "fd18:23::40", "fd18:24::123")
GUESTS = ("10.18.40.21", "10.18.40.22", "10.18.40.35")
GUEST_VLAN = 40

COMMON = (
    "www.google.com", "www.google.com", "en.wikipedia.org", "mail.google.com", "github.com",
    "outlook.office.com", "teams.microsoft.com", "login.microsoftonline.com", "www.bbc.co.uk",
    "fonts.googleapis.com", "www.youtube.com", "deb.debian.org", "pypi.org", "www.amazon.com",
    "s3.amazonaws.com", "www.cloudflare.com", "duckduckgo.com", "stackoverflow.com", "zoom.us",
    "slack.com", "www.linkedin.com", "ocsp.digicert.com", "www.apple.com", "addons.mozilla.org",
    "time.windows.com", "www.reddit.com", "docs.python.org", "www.nytimes.com",
)  # fmt: skip
UNCOMMON = (
    "intranet.office.example", "wiki.office.example", "printer-2.office.example", "wpad", "ge.tt",
    "recipes.kitchen.example", "shop.small-bakery.example", "forum.birdwatch.example.org",
)  # fmt: skip
WATCHED = (
    "malware.example", "phish.example.net", "login.phish.example.net", "dropper.example.org",
    "tracker.invalid",
)  # fmt: skip
BEACON = "c2.badhost.test"
TUNNEL = "t.exfil.example.net"
GENERATED_TLDS = ("com", "net", "ru", "cn", "info", "biz", "org", "top")

A, PTR, TXT, AAAA, HTTPS = 1, 12, 16, 28, 65
NXDOMAIN = 3
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
EIGHT = 1_772_438_400 * SECOND  # 2026-03-02 08:00:00 UTC


class Day:
    """The frames of the day, in the order in which they are made up."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.draw = random.Random(20260302)

    def packet(self, time_ns: int, src: str, dst: str, protocol: int, payload: bytes) -> None:
        """Add a packet; guests are on a VLAN of their own."""
        wrap = craft.ipv6 if ":" in src else craft.ipv4
        frame = craft.ethernet(wrap(src, dst, protocol, payload))
        if src in GUESTS or dst in GUESTS:
            frame = craft.vlan(frame, GUEST_VLAN)
        self.frames.append((time_ns, frame))

    def ask(
        self,
        time_ns: int,
        client: str,
        name: str,
        qtype: int = A,
        *,
        server: str = RESOLVER,
        answer: bytes | None = b"",
        delay: int = 0,
    ) -> None:
        """Add a UDP query and its response: `answer`, an invented one, or None for no such name."""
        port, txid = self.draw.randrange(1024, 65536), self.draw.randrange(65536)
        query = craft.dns_query(name, qtype, txid=txid)
        sent = (
            query
            if self.draw.random() < 0.3
            else craft.dns_query(name, qtype, txid=txid, edns=1232)
        )
        self.packet(time_ns, client, server, craft.UDP, craft.udp(port, 53, sent))
        response = self.response(query, qtype, answer)
        back = time_ns + delay + self.draw.randrange(200_000, 4_000_000)
        self.packet(back, server, client, craft.UDP, craft.udp(53, port, response))

    def response(self, query: bytes, qtype: int, answer: bytes | None) -> bytes:
        """Answer a query as `ask` says."""
        if answer is None:
            return craft.dns_response(query, rcode=NXDOMAIN)
        if not answer and qtype == A:
            answer = bytes((198, 51, 100, self.draw.randrange(1, 255)))
        elif not answer and qtype == AAAA:
            answer = craft.packed(f"2001:db8::{self.draw.randrange(1, 65536):x}")
        return craft.dns_response(query, *([(qtype, answer)] if answer else []))

    def ask_over_tcp(self, time_ns: int, client: str, name: str, qtype: int) -> None:
        """Add a TCP connection that carries one query and its response."""
        server = RESOLVER6 if ":" in client else RESOLVER
        port, near, far = self.draw.randrange(32768, 61000), 1000, 5000
        query = craft.dns_query(name, qtype, txid=self.draw.randrange(65536))
        ask, answer = craft.framed(query), craft.framed(self.response(query, qtype, b""))
        asked, answered = near + 1 + len(ask), far + 1 + len(answer)
        acked = craft.ACK | craft.PSH
        steps = (
            (True, near, craft.SYN, b"", 0),
            (False, far, craft.SYN | craft.ACK, b"", near + 1),
            (True, near + 1, craft.ACK, b"", far + 1),
            (True, near + 1, acked, ask, far + 1),
            (False, far + 1, acked, answer, asked),
            (True, asked, craft.ACK | craft.FIN, b"", answered),
            (False, answered, craft.ACK | craft.FIN, b"", asked + 1),
        )
        for i, (out, seq, flags, payload, ack) in enumerate(steps):
            ends, ports = (client, server), (port, 53)
            if not out:
                ends, ports = (server, client), (53, port)
            segment = craft.tcp(*ports, seq, flags, payload, ack=ack)
            self.packet(time_ns + i * 300_000, *ends, craft.TCP, segment)


def browsing(day: Day) -> None:
    """Let clients look names up all day; the resolver forwards what it does not know yet."""
    known: set[str] = set()
    for _ in range(120):
        time_ns = EIGHT + day.draw.randrange(9 * 60 * MINUTE)
        name = day.draw.choice(COMMON if day.draw.random() < 0.85 else UNCOMMON)
        client = day.draw.choice(CLIENTS + CLIENTS6 + GUESTS)
        server = RESOLVER6 if ":" in client else RESOLVER
        fresh = name not in known and "." in name
        known.add(name)
        day.ask(time_ns, client, name, server=server, delay=20_000_000 * fresh)
        if fresh:
            day.ask(time_ns + 300_000, RESOLVER, name, server=UPSTREAM, delay=10_000_000)
        for qtype, share in ((AAAA, 0.5), (HTTPS, 0.2)):
            if day.draw.random() < share:
                day.ask(time_ns + 150_000, client, name, qtype, server=server)


def watched(day: Day) -> None:
    """Let some clients meet watch-listed names, and one call home every ten minutes."""
    for name in WATCHED:
        for _ in range(2):
            time_ns = EIGHT + day.draw.randrange(9 * 60 * MINUTE)
            day.ask(time_ns, day.draw.choice(CLIENTS), name, answer=None)
    for i in range(54):
        jitter = day.draw.randrange(4 * SECOND)
        time_ns = EIGHT + (3 + 10 * i) * MINUTE + jitter
        day.ask(time_ns, "10.18.23.35", BEACON, delay=20_000_000 * (i == 0))
        if i == 0:
            day.ask(time_ns + 400_000, RESOLVER, BEACON, server=UPSTREAM, delay=10_000_000)


def tunnel(day: Day) -> None:
    """Carry a file out in the labels of a domain, and orders back in TXT answers."""
    time_ns = EIGHT + 380 * MINUTE
    for i in range(60):
        time_ns += day.draw.randrange(SECOND, 6 * SECOND)
        label = base64.b32encode(day.draw.getrandbits(280).to_bytes(35, "big")).decode().lower()
        name = f"{label[:52]}.{i:04x}.{TUNNEL}"
        order = base64.b64encode(day.draw.getrandbits(192).to_bytes(24, "big"))
        if i % 4:
            day.ask(time_ns, "10.18.23.57", name, TXT, answer=bytes((len(order),)) + order)
        else:
            day.ask(time_ns, "10.18.23.57", name)


def generated(day: Day) -> None:
    """Try names that an algorithm made, as malware does to find its server."""
    time_ns = EIGHT + 162 * MINUTE
    for i in range(40):
        time_ns += day.draw.randrange(SECOND // 5, 2 * SECOND)
        label = "".join(day.draw.choices(string.ascii_lowercase, k=day.draw.randrange(12, 21)))
        tld = GENERATED_TLDS[i % len(GENERATED_TLDS)]
        day.ask(time_ns, "10.18.24.66", f"{label}.{tld}", answer=None)


def sweep(day: Day) -> None:
    """Ask for the names of a network's addresses one after the other, and some in earnest."""
    time_ns = EIGHT + 305 * MINUTE
    for host in range(1, 31):
        time_ns += day.draw.randrange(SECOND // 50, SECOND // 10)
        name = f"{host}.22.18.10.in-addr.arpa"
        server = craft.wire_name("resolver.office.example") if host == 12 else None
        day.ask(time_ns, "10.18.24.77", name, PTR, answer=server)
    address6 = ".".join(craft.packed("fd18:22::12").hex()[::-1]) + ".ip6.arpa"
    for client, name in (
        ("10.18.24.123", "lb._dns-sd._udp.office.example"),
        ("10.18.24.123", "b._dns-sd._udp.64.24.18.10.in-addr.arpa"),
        ("10.18.23.40", address6),
    ):
        day.ask(EIGHT + day.draw.randrange(540 * MINUTE), client, name, PTR, answer=None)


def oddities(day: Day) -> None:
    """Add what is seldom: TCP, a fragmented query, a foreign resolver, traffic that is no DNS."""
    day.ask_over_tcp(EIGHT + 95 * MINUTE, "10.18.23.40", "records.office.example", TXT)
    day.ask_over_tcp(EIGHT + 233 * MINUTE, "10.18.24.35", "en.wikipedia.org", A)
    day.ask_over_tcp(EIGHT + 410 * MINUTE, "fd18:24::123", "deb.debian.org", AAAA)
    name = f"{'fragmented-' * 5}query.{'long-label-' * 4}name.office.example"
    datagram = craft.udp(40404, 53, craft.dns_query(name, txid=404, edns=4096))
    for at, more in ((0, True), (56, False)):
        part = datagram[at : at + 56] if more else datagram[at:]
        packet = craft.ipv4(
            "10.18.24.40", RESOLVER, craft.UDP, part, ident=4040, frag_off=at, more=more
        )
        day.frames.append((EIGHT + 200 * MINUTE + at * 1000, craft.ethernet(packet)))
    for name in ("www.google.com", "updates.games.example.com", "ge.tt"):
        time_ns = EIGHT + day.draw.randrange(540 * MINUTE)
        day.ask(time_ns, "10.18.24.123", name, server=OUTSIDE, delay=15_000_000)
    for i in range(10):
        clock = craft.udp(123, 123, b"\x23".ljust(48, b"\0"))
        day.packet(EIGHT + 54 * i * MINUTE, CLIENTS[i], "10.18.22.1", craft.UDP, clock)


def demo() -> bytes:
    """Make the capture."""
    day = Day()
    for part in (browsing, watched, tunnel, generated, sweep, oddities):
        part(day)
    return craft.pcap(sorted(day.frames))


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("demo.pcap")
    out.write_bytes(demo())
