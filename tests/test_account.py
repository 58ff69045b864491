"""`statistics`: the account of a run, which adds up, for people and for programs."""

from __future__ import annotations

import json
import random
import socket
from typing import TYPE_CHECKING, cast

import craft
from dnsqmon.account.account import account, as_text
from dnsqmon.assembly.network import RelayInlet
from dnsqmon.core.counters import REASONS, Counters
from dnsqmon.decode.decoder import Decoder
from dnsqmon.pipeline import Pipeline
from dnsqmon.relay.feed import RelayServer
from dnsqmon.relay.wire import Signer
from dnsqmon.render.batch import Clock
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sensor.sensor import Sensor
from dnsqmon.sinks.interval import Interval
from dnsqmon.sources.capture_file import CaptureFile
from forwarded import batch
from needs import ROOT
from seams import ListSink, ListSource
from traffic import CLIENT, SERVER, noise, query, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.interfaces import Sink, Source
    from dnsqmon.pipeline import Inlet


def run(source: Source, *sinks: Sink) -> Pipeline:
    """Run a source through the real stages into sinks."""
    counters, lists, seen = Counters(), Lists(), FirstSeen(100)
    scorer = Scorer("roonet", load_profile("classic"), lists, seen)
    inlet = Sensor(Decoder((53,), (1, 28, 12), counters), scorer, lists, seen, counters)
    pipeline = Pipeline(source, inlet, sinks, counters, Clock(utc=True))
    pipeline.run()
    return pipeline


def some_of_each() -> list[bytes]:
    """Build frames that are records, further messages of a segment, and refused."""

    def over_tcp(*messages: bytes) -> bytes:
        payload = b"".join(map(craft.framed, messages))
        segment = craft.tcp(4000, 53, 1, craft.ACK | craft.PSH, payload)
        return craft.ethernet(craft.ipv4(CLIENT, SERVER, craft.TCP, segment))

    two = over_tcp(craft.dns_query("a.example"), craft.dns_query("b.example"))
    return [two, query("c.example", qtype=16), noise(), b"\0" * 60, query("d.example")]


def test_account() -> None:
    """Each packet stands under what became of it, each record under what a sink made of it."""
    waiting = Interval(ListSink("csv"), 60)
    counts = account(run(ListSource([timed(some_of_each())]), ListSink("screen"), waiting))
    assert counts == {
        "captured": 8, "lost": {"kernel_dropped": 3}, "packets": 5, "pipelined": 1, "records": 3,
        "refused": {"not_ip": 1, "other_port": 1, "other_type": 1}, "held": 0, "adds_up": True,
        "source": {"filtered": 7},
        "sinks": {
            "screen": {"written": 3, "waiting": 0, "lost_write_error": 0},
            "csv": {"written": 3, "waiting": 0, "lost_write_error": 0},
        },
        "inlet": {"first_seen_domains": 3, "first_seen_evicted": 0},
    }  # fmt: skip
    assert json.loads(json.dumps(counts)) == counts


def test_text() -> None:
    """The account as text is exactly this: what is nought is left out but for what was written."""
    pipeline = run(ListSource([timed(some_of_each())]), ListSink("screen"))
    pipeline.counters.held = 2
    assert list(as_text(account(pipeline))) == [
        "           8  packets captured",
        "           3    lost: kernel dropped",
        "           5  packets inspected",
        "           1  + further messages in a TCP segment",
        "           3  = records",
        "           1    + not_ip: no IPv4 or IPv6 packet in the frame",
        "           1    + other_port: UDP or TCP, but on none of the chosen ports",
        "           1    + other_type: query for a record type that was not asked for",
        "           2    + held: waiting for the rest of their message",
        "           7  packets that the filter kept out",
        "           3  screen: written",
        "           3  first seen domains",
        "           0  first seen evicted",
    ]


def test_senders_are_told_apart() -> None:
    """Of a relay's losses the account says whose they are, in its text too."""
    key = b"0123456789abcdef" * 2
    server = RelayServer("127.0.0.1", 0, key=key, utc=True)
    signer = Signer(key)
    line = batch(1).lines("csv")[0].encode()
    signed = [signer.datagram(line) for _ in range(4)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for datagram in (b"x", b"x", signed[0], signed[3]):
            client.sendto(datagram, server.address)
    server.stop()
    counters = Counters()
    inlet = cast("Inlet", RelayInlet(counters))
    pipeline = Pipeline(cast("Source", server), inlet, [], counters, Clock(utc=True))
    pipeline.run()
    counts = account(pipeline)
    assert counts["records"] == 2
    assert counts["senders"] == {"127.0.0.1": {"no_tag": 2, "on_the_way": 2}}
    lines = list(as_text(counts))
    assert "           2      of 127.0.0.1: no tag" in lines
    assert "           2      of 127.0.0.1: on the way" in lines
    assert json.loads(json.dumps(counts)) == counts


def test_large_numbers_stay_aligned() -> None:
    """Numbers up to a thousand million keep their column, with thousands parted."""
    pipeline = run(ListSource([]), ListSink("csv"))
    pipeline.counters.packets = 123_456_789
    lines = list(as_text(account(pipeline)))
    assert lines[2] == " 123,456,789  packets inspected"
    assert not account(pipeline)["adds_up"]


def test_reasons_keep_their_order() -> None:
    """Reasons stand in the order of their table, whichever came first."""
    frames: Sequence[bytes] = [query("c.example", qtype=16), noise(), b"\0" * 60]
    counts = account(run(ListSource([timed(frames)])))
    assert list(counts["refused"]) == sorted(counts["refused"], key=list(REASONS).index)


def test_demo_capture_adds_up() -> None:
    """On the capture that ships, packets are records and each refusal, to the last one."""
    source = CaptureFile(str(ROOT / "tests" / "data" / "demo.pcap"))
    sink = ListSink()
    counts = account(run(source, sink))
    assert counts["packets"] > 500
    assert counts["packets"] + counts["pipelined"] == counts["records"] + sum(
        counts["refused"].values()
    )
    assert counts["records"] == len(sink.records) > 300


def test_random_frames_add_up() -> None:
    """Whatever frames come, damaged ones above all, the account adds up after each batch."""
    chance = random.Random(1)
    frames = []
    for _ in range(2000):
        frame = bytearray(chance.choice(some_of_each()))
        for _ in range(chance.randrange(4)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        frames.append(bytes(frame[: chance.randrange(1, len(frame) + 1)]))
    for start in range(0, 2000, 100):
        pipeline = run(ListSource([timed(frames[start : start + 100])]), ListSink())
        counts = account(pipeline)
        assert counts["adds_up"]
        assert counts["packets"] == 100
        assert counts["sinks"]["list"]["written"] == counts["records"]
