"""Live capture on real interfaces, in namespaces of the tests' own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest

from craft import TCP, UDP, dns_query, ethernet, ipv4, ipv6, tcp, udp
from dnsqmon.core.errors import ConfigError
from dnsqmon.sources.live import LiveCapture
from dnsqmon.sources.pcap_filter import compile_filter
from namespaces import namespace, veth_pair
from needs import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnsqmon.core.record import Frame
    from namespaces import Namespace

QUERY = dns_query("www.example.com")


@pytest.fixture(autouse=True)
def _rights() -> None:
    need_root()
    need("ip")


class Capture:
    """A capture that runs in a thread inside a namespace and keeps what it yields."""

    def __init__(self, where: Namespace, *interfaces: str, **options: Any) -> None:  # noqa: ANN401 - as LiveCapture
        self.frames: list[Frame] = []
        self.empty_batches = 0
        options = {"block_ms": 10, "ring_megabytes": 4, **options}
        self.source = where.call(lambda: LiveCapture(interfaces, [53], **options))
        self._thread = threading.Thread(target=where.call, args=(self._collect,))
        self._thread.start()

    def _collect(self) -> None:
        for batch in self.source.batches():
            self.frames += batch.frames
            self.empty_batches += not batch.frames

    def stop(self) -> list[Frame]:
        """End the capture; give its frames."""
        self.source.stop()
        self._thread.join()
        self.source.close()
        return self.frames

    def packets(self) -> list[bytes]:
        """End the capture; give what was behind the Ethernet headers."""
        return [frame[14:] for _, frame in self.stop()]


def _until(condition: Callable[[], object]) -> None:
    """Wait for what is bound to happen; give up after twenty seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


def _send(where: Namespace, address: str, *payloads: bytes, port: int = 53) -> None:
    """Send datagrams from an ordinary socket, which has all of them reach the interface."""

    def send() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for payload in payloads:
                sender.sendto(payload, (address, port))

    where.call(send)


def _payloads(packets: list[bytes]) -> list[bytes]:
    """Cut the headers off UDP over IPv4 without options, or over IPv6 without extensions."""
    return [packet[28:] if packet[0] >> 4 == 4 else packet[48:] for packet in packets]


def _numbered(count: int, start: int = 0) -> list[bytes]:
    return [struct.pack("!H", number) + QUERY[2:] for number in range(start, start + count)]


def test_packets_come_in_order_with_the_time_of_their_arrival() -> None:
    """What crosses the interface is yielded once, in order, stamped between before and after."""
    with veth_pair() as (client, server):
        capture = Capture(server, "eth0")
        before = time.time_ns()
        _send(client, "192.0.2.2", *_numbered(100))
        after = time.time_ns()
        frames = capture.stop()
    assert _payloads([frame[14:] for _, frame in frames]) == _numbered(100)
    times = [time_ns for time_ns, _ in frames]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= after
    assert capture.source.losses() == {"kernel_dropped": 0, "left_in_ring": 0}


def test_loopback_shows_each_packet_once() -> None:
    """On loopback the echo of a packet is not a second packet, by name and on `any`."""
    with namespace() as where:
        for interface in ("lo", "any"):
            capture = Capture(where, interface)
            _send(where, "127.0.0.1", *_numbered(10))
            _send(where, "::1", *_numbered(10, 10))
            assert _payloads(capture.packets()) == _numbered(20)


def test_any_shows_a_bridged_and_routed_packet_once() -> None:
    """A packet that crosses a bridge and is then routed is one packet, its copies are counted."""
    with namespace() as middle, namespace() as near, namespace() as far:
        for name, end, network in (("near", near, 1), ("far", far, 2)):
            middle.ip(f"link add {name} type veth peer name eth0 netns {end.name}")
            middle.ip(f"link set {name} up")
            end.ip(f"addr add 192.0.{network}.1/24 dev eth0")
            end.ip("link set eth0 up")
            end.ip(f"route add default via 192.0.{network}.254")
        middle.ip("link add bridge type bridge")
        middle.ip("link set bridge up")
        middle.ip("link set near master bridge")
        middle.ip("addr add 192.0.1.254/24 dev bridge")
        middle.ip("addr add 192.0.2.254/24 dev far")
        middle.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

        capture = Capture(middle, "any")
        arrived = Capture(far, "eth0")
        payloads = _numbered(50) + [QUERY] * 2
        _send(near, "192.0.2.1", *payloads)
        # In any order: the first packet waits until its next hop is known, others may overtake it.
        assert sorted(_payloads(capture.packets())) == sorted(payloads)
        # Shown by the bridge's port, the bridge, and the interface to the far end.
        assert capture.source.losses() == {"kernel_dropped": 0, "left_in_ring": 0}
        assert capture.source.counts()["duplicate"] == 2 * len(payloads)
        assert sorted(_payloads(arrived.packets())) == sorted(payloads)


def test_several_interfaces_in_one_process() -> None:
    """Two interfaces are captured side by side, and a third is not."""
    with namespace() as where:
        for name in ("one", "two", "three"):
            where.ip(f"link add {name} type veth peer name {name}-peer")
            where.ip(f"link set {name} up")
            where.ip(f"link set {name}-peer up")
        capture = Capture(where, "one", "two", "one")
        for number, name in enumerate(("one", "two", "three")):
            payload = _numbered(1, number)[0]
            frame = ethernet(ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, 53, payload)))
            where.send_frames(f"{name}-peer", [frame])
        assert sorted(_payloads(capture.packets())) == _numbered(2)


def test_other_stations_packets_are_seen_unless_refrained() -> None:
    """The interface is promiscuous while captured, or not at all if so asked."""
    with veth_pair() as (_, server):
        for promiscuous in (True, False):
            capture = Capture(server, "eth0", promiscuous=promiscuous)
            shown = server.run("ip", "-d", "link", "show", "eth0").stdout
            assert f"promiscuity {promiscuous:d} " in shown
            capture.stop()
            assert "promiscuity 0 " in server.run("ip", "-d", "link", "show", "eth0").stdout


@pytest.mark.parametrize("interface", ["tun0", "any"])
@pytest.mark.parametrize("expression", [None, "port 53"])
def test_interface_without_link_headers(interface: str, expression: str | None) -> None:
    """A tunnel device gives bare IP packets; they come with an Ethernet header of no addresses."""
    with namespace() as where, _tun(where) as device:
        where.ip("link set tun0 up")
        program = compile_filter(expression, 65535) if expression else None
        capture = Capture(where, interface, program=program)
        packets = [
            ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, 53, QUERY)),
            ipv6("2001:db8::1", "2001:db8::2", TCP, tcp(4242, 53, 1, payload=QUERY)),
        ]
        for packet in [*packets, ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, 54, QUERY))]:
            os.write(device, packet)
        frames = [frame for _, frame in capture.stop()]
    assert frames == [ethernet(packet, src=bytes(6), dst=bytes(6)) for packet in packets]


@contextlib.contextmanager
def _tun(where: Namespace) -> Iterator[int]:
    """Make the device tun0; what is written to its descriptor arrives on it (tun(4))."""

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        without_link_header, set_interface = 0x0001 | 0x1000, 0x400454CA
        fcntl.ioctl(descriptor, set_interface, struct.pack("16sH22x", b"tun0", without_link_header))
        return descriptor

    descriptor = where.call(make)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_interface_that_goes_down_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Down is reported and survived; what comes after is captured."""
    with veth_pair() as (client, server):
        capture = Capture(server, "eth0")
        _send(client, "192.0.2.2", *_numbered(1))
        server.ip("link set eth0 down")
        _until(lambda: "interface eth0 is down: waiting for it" in caplog.messages)
        server.ip("link set eth0 up")
        _until(lambda: "interface eth0 is back" in caplog.messages)
        _send(client, "192.0.2.2", *_numbered(1, 1))
        assert _payloads(capture.packets()) == _numbered(2)


def test_interface_that_is_down_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """A sensor may start before its interface is up."""
    with veth_pair() as (client, server):
        server.ip("link set eth0 down")
        capture = Capture(server, "eth0")
        _until(lambda: "interface eth0 is down: waiting for it" in caplog.messages)
        server.ip("link set eth0 up")
        _until(lambda: "interface eth0 is back" in caplog.messages)
        _send(client, "192.0.2.2", *_numbered(1))
        assert _payloads(capture.packets()) == _numbered(1)


def test_interface_that_is_removed_and_made_again(caplog: pytest.LogCaptureFixture) -> None:
    """A new interface of the same name is captured like the old, promiscuous mode included."""
    with veth_pair() as (client, server):
        server.ip("link add other type veth peer name other-peer")
        for name in ("other", "other-peer"):
            server.ip(f"link set {name} up")
        capture = Capture(server, "eth0", "other")
        _send(client, "192.0.2.2", *_numbered(1))
        client.ip("link del eth0")
        _until(lambda: "interface eth0 is down: waiting for it" in caplog.messages)
        other = ethernet(ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, 53, _numbered(1, 1)[0])))
        server.send_frames("other-peer", [other])

        client.ip(f"link add eth0 type veth peer name eth0 netns {server.name}")
        for number, end in ((1, client), (2, server)):
            end.ip(f"addr add 192.0.2.{number}/24 dev eth0")
            end.ip("link set eth0 up")
        _until(lambda: "interface eth0 is back" in caplog.messages)
        assert "promiscuity 1 " in server.run("ip", "-d", "link", "show", "eth0").stdout
        _send(client, "192.0.2.2", *_numbered(1, 2))
        assert _payloads(capture.packets()) == _numbered(3)


def test_interface_that_comes_back_as_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """One that was lent to another namespace keeps its index, but not its promiscuous mode."""
    with veth_pair() as (_, server), namespace() as other:
        capture = Capture(server, "eth0")
        index = server.run("cat", "/sys/class/net/eth0/ifindex").stdout
        server.ip(f"link set eth0 netns {other.name}")
        _until(lambda: "interface eth0 is down: waiting for it" in caplog.messages)
        other.ip(f"link set eth0 netns {server.name}")
        server.ip("link set eth0 up")
        _until(lambda: "interface eth0 is back" in caplog.messages)
        assert server.run("cat", "/sys/class/net/eth0/ifindex").stdout == index
        assert "promiscuity 1 " in server.run("ip", "-d", "link", "show", "eth0").stdout
        capture.stop()


def test_stop_yields_what_the_ring_holds_and_nothing_after() -> None:
    """A block that is not complete when `stop` is called is waited for, and then it is over."""
    with veth_pair() as (client, server):
        source = server.call(lambda: LiveCapture(["eth0"], [53], block_ms=200))
        _send(client, "192.0.2.2", *_numbered(500))
        source.stop()
        batches = source.batches()
        frames = next(batches).frames
        _send(client, "192.0.2.2", *_numbered(500, 500))
        frames += [frame for batch in batches for frame in batch.frames]
        assert source.counts()["waiting_in_ring"] == 0
        source.close()
    assert _payloads([frame[14:] for _, frame in frames]) == _numbered(500)


def test_stop_may_come_again_and_late() -> None:
    """A second signal does no harm, not even when everything is closed."""
    with veth_pair() as (_, server):
        source = server.call(lambda: LiveCapture(["eth0"], [53]))
        source.stop()
        source.stop()
        assert not any(batch.frames for batch in source.batches())
        source.close()
        source.stop()


def test_what_is_left_in_the_ring_is_a_named_loss() -> None:
    """Packets that were captured but never read wait while it runs, and are lost at the end."""
    with veth_pair() as (client, server):
        source = server.call(lambda: LiveCapture(["eth0"], [53]))
        _send(client, "192.0.2.2", *_numbered(100))
        assert source.losses() == {"kernel_dropped": 0, "left_in_ring": 0}
        assert source.counts()["waiting_in_ring"] == 100
        source.close()
    assert source.losses() == {"kernel_dropped": 0, "left_in_ring": 100}
    assert source.counts()["waiting_in_ring"] == 0


def test_what_a_full_ring_drops_is_counted() -> None:
    """Packets that found the ring full are counted to the last one, also after closing."""
    with veth_pair() as (client, server):
        source = server.call(lambda: LiveCapture(["eth0"], [53], ring_megabytes=1))
        _send(client, "192.0.2.2", *[QUERY + bytes(900)] * 3000)
        source.stop()
        frames = [frame for batch in source.batches() for frame in batch.frames]
        source.close()
    losses = source.losses()
    assert losses["kernel_dropped"] > 0
    assert len(frames) + losses["kernel_dropped"] == 3000
    assert source.counts()["ring_freezes"] > 0


def test_drops_are_reported_while_they_happen(caplog: pytest.LogCaptureFixture) -> None:
    """Who runs a ring that is too small reads so in the log, with the setting that helps."""
    with veth_pair() as (client, server):
        source = server.call(lambda: LiveCapture(["eth0"], [53], ring_megabytes=1))
        _send(client, "192.0.2.2", *[QUERY + bytes(900)] * 3000)
        batches = source.batches()
        while not caplog.messages:
            next(batches)
        source.close()
    dropped = source.losses()["kernel_dropped"]
    counts = f"{dropped} packets dropped, {source.counts()['ring_freezes']} ring freezes"
    assert caplog.messages == [f"{counts}: set --ring-size higher"]


def test_an_idle_interface_yields_empty_batches() -> None:
    """What is timed goes on without a packet."""
    with veth_pair() as (_, server):
        capture = Capture(server, "eth0")
        _until(lambda: capture.empty_batches >= 3)
        assert capture.stop() == []


def test_filter_replaces_the_ports() -> None:
    """A pcap-filter expression decides alone what is captured."""
    with veth_pair() as (client, server):
        program = compile_filter("udp port 5300 and ip src 192.0.2.1", 65535)
        capture = Capture(server, "eth0", program=program)
        _send(client, "192.0.2.2", *_numbered(1))
        _send(client, "192.0.2.2", *_numbered(1, 1), port=5300)
        assert _payloads(capture.packets()) == _numbered(1, 1)


@pytest.mark.parametrize("expression", [None, "udp port 53"])
def test_what_the_filter_keeps_out_is_counted(expression: str | None) -> None:
    """Each packet of the interface is either captured or counted as filtered."""
    with veth_pair() as (client, server):
        server.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        client.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        program = compile_filter(expression, 65535) if expression else None
        capture = Capture(server, "eth0", program=program)
        packets = [
            ethernet(ipv4("192.0.2.1", "192.0.2.2", UDP, udp(4242, port, QUERY)))
            for port in (53, 54, 53, 55)
        ]
        client.send_frames("eth0", packets * 1000)
        assert len(capture.stop()) == 2000
        assert capture.source.counts()["filtered"] == 2000


def test_an_expression_that_libpcap_refuses() -> None:
    """The reason is libpcap's own."""
    with pytest.raises(ConfigError, match=r"--filter 'udp port': .*syntax error"):
        compile_filter("udp port", 65535)


def test_an_interface_that_does_not_exist() -> None:
    """A misspelt name is refused at the start, with the names there are."""
    with (
        namespace() as where,
        pytest.raises(
            ConfigError, match=r"--interface eth7: there is no such interface.* lo, and any"
        ),
    ):
        where.call(lambda: LiveCapture(["lo", "eth7"], [53]))


def test_any_and_a_name_do_not_go_together() -> None:
    """`any` beside an interface would count its packets twice."""
    with pytest.raises(ConfigError, match="already watches every interface"):
        LiveCapture(["any", "lo"], [53])


def test_a_ring_that_does_not_fit_into_memory() -> None:
    """The setting to change is named."""
    with pytest.raises(ConfigError, match="--ring-size 1000000: not enough memory"):
        LiveCapture(["lo"], [53], ring_megabytes=1_000_000)
