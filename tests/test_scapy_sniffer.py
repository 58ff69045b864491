"""The scapy engine on real interfaces, in namespaces of the tests' own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from craft import GRE, UDP, dns_query, ethernet, gre, ipv4, udp, vlan
from dnsqmon.core.errors import ConfigError
from dnsqmon.sources import scapy_sniffer
from dnsqmon.sources.scapy_sniffer import ScapySniffer
from namespaces import veth_pair
from needs import ROOT, need, need_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.record import Frame
    from namespaces import Namespace

QUERY = dns_query("www.example.com")
PACKET = ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, 53, QUERY))
FRAMES = [
    ethernet(PACKET),
    vlan(ethernet(PACKET)),
    ethernet(ipv4("192.0.2.1", "192.0.2.2", GRE, gre(PACKET))),
]


@pytest.fixture(autouse=True)
def _rights() -> None:
    need_root()
    need("ip")


def _capture(
    where: Namespace,
    sender: Namespace,
    interface: str,
    frames: Sequence[bytes],
    *,
    expected: int,
    expression: str | None = None,
) -> list[Frame]:
    """Capture on `interface` what `sender` sends, until it has come or ten seconds are over."""
    source = where.call(lambda: ScapySniffer([interface], expression=expression))
    got: list[Frame] = []

    def collect() -> None:
        for batch in source.batches():
            got.extend(frame for frame in batch.frames if frame[1] in FRAMES)

    thread = threading.Thread(target=collect)
    thread.start()
    sender.send_frames("eth0" if where is not sender else "lo", frames)
    deadline = time.monotonic() + 10
    while len(got) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    source.stop()
    thread.join()
    source.close()
    assert source.losses() == {"kernel_dropped": 0, "unread": 0}
    return got


def test_frames_come_whole_with_their_time() -> None:
    """Tunnels and VLAN tags reach the decoder, which the native engine's filter keeps out."""
    with veth_pair() as (client, server):
        before = time.time_ns() - 1000  # scapy's seconds are a float: good to half a microsecond
        got = _capture(server, client, "eth0", FRAMES, expected=3)
        assert [frame for _, frame in got] == FRAMES
        assert before <= got[0][0] <= time.time_ns()


def test_several_packets_of_loopback_come_once() -> None:
    """The echo that Linux shows of a packet on loopback is left out."""
    with veth_pair() as (client, _):
        got = _capture(client, client, "lo", FRAMES[:1] * 3, expected=3)
        assert len(got) == 3


def test_filter_is_a_pcap_expression() -> None:
    """What the expression does not name stays outside; a bad one is refused."""
    with veth_pair() as (client, server):
        got = _capture(server, client, "eth0", FRAMES[::-1], expected=2, expression="udp port 53")
        assert [frame for _, frame in got] == FRAMES[1::-1]
        with pytest.raises(ConfigError, match=r"--engine scapy --interface eth0: .*filter"):
            server.call(lambda: ScapySniffer(["eth0"], expression="udp port"))


def test_what_waits_at_the_end_is_yielded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sockets hold when `stop` is called is taken, though it fills several batches."""
    monkeypatch.setattr(scapy_sniffer, "_BATCH_SECONDS", 0.001)
    with veth_pair() as (client, server):
        source = server.call(lambda: ScapySniffer(["eth0"], expression="udp port 53"))
        client.send_frames("eth0", FRAMES[:1] * 500)
        source.stop()
        assert sum(len(batch.frames) for batch in source.batches()) == 500
        source.close()
    assert source.losses() == {"kernel_dropped": 0, "unread": 0}


def test_what_is_left_at_the_end_is_a_named_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where time does not do for all that waits, each packet is yielded or counted."""
    monkeypatch.setattr(scapy_sniffer, "_BATCH_SECONDS", 0.001)
    monkeypatch.setattr(scapy_sniffer, "_LAST_SECONDS", 0)
    with veth_pair() as (client, server):
        source = server.call(lambda: ScapySniffer(["eth0"], expression="udp port 53"))
        client.send_frames("eth0", FRAMES[:1] * 5000)
        source.stop()
        got = sum(len(batch.frames) for batch in source.batches())
        source.close()
    assert got < 5000
    assert source.losses() == {"kernel_dropped": 0, "unread": 5000 - got}


def test_missing_interface_and_scapy_say_what_to_do() -> None:
    """A misspelt interface, and a Python without scapy, are the user's to mend."""
    with pytest.raises(ConfigError, match="--engine scapy --interface eth77: "):
        ScapySniffer(["eth77"])
    script = (
        "import sys; sys.modules['scapy'] = None\n"
        "from dnsqmon.core.errors import ConfigError\n"
        "from dnsqmon.sources.scapy_sniffer import ScapySniffer\n"
        "try: ScapySniffer(['lo'])\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT / "bin")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("--engine scapy: scapy is missing")
    assert "pip install scapy" in done.stdout
