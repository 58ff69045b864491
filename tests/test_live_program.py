"""The whole program on a live interface: real resolvers, clients and replays, real signals."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from craft import dns_query, ethernet, ipv4, udp
from namespaces import veth_pair
from needs import ROOT, need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from namespaces import Namespace

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bin")}

CLIENT4, SERVER4 = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"

UNBOUND = f"""
server:
    interface: {SERVER4}
    interface: {SERVER6}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    chroot: ""
    username: ""
    directory: "."
    pidfile: ""
    use-syslog: no
    logfile: "unbound.log"
    local-zone: "example.com." static
    local-data: "www.example.com. A 192.0.2.80"
    local-data: "www.example.com. AAAA 2001:db8::80"
    local-zone: "2.0.192.in-addr.arpa." static
    local-data-ptr: "192.0.2.80 www.example.com"
remote-control:
    control-enable: no
"""


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[Namespace, Namespace]]:
    """Return a client's and a server's namespace, joined by a cable."""
    need_root()
    need("ip")
    with veth_pair() as ends:
        yield ends


class Program:
    """The program, writing `queries.csv` and `stats.json` to a folder."""

    def __init__(self, where: Namespace, folder: Path, *arguments: str) -> None:
        self.folder = folder
        stats = folder / "stats.json"
        stats.unlink(missing_ok=True)
        self.process = where.start(
            sys.executable, "-m", "dnsqmon", "-i", "eth0", "-w", "csv", "-f", str(self.csv),
            "--user", "root", "--stats-file", str(stats), *arguments,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        while not stats.exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    @property
    def csv(self) -> Path:
        """Name the file that is written."""
        return self.folder / "queries.csv"

    def rows(self) -> list[dict[str, str]]:
        """Read the file that was written."""
        with self.csv.open(newline="") as file:
            return list(csv.DictReader(file))

    def stop(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """End the program as systemd does; give its last account, which must add up."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        assert (self.process.returncode, errors) == (0, "")
        account: dict[str, Any] = json.loads(
            (self.folder / "stats.json").read_text().splitlines()[-1]
        )
        check(account)
        return account


def check(account: dict[str, Any]) -> None:
    """Every captured packet is a record or has a reason, every record is written."""
    assert account["captured"] == account["packets"] + sum(account["lost"].values())
    assert account["packets"] + account["pipelined"] == (
        account["records"] + sum(account["refused"].values()) + account["held"]
    )
    assert account["records"] == sum(account["sinks"]["csv"].values())


@pytest.fixture(name="resolver")
def _resolver(ends: tuple[Namespace, Namespace], tmp_path: Path) -> Iterator[None]:
    """Run unbound at the server's end."""
    need("unbound", "dig")
    client, server = ends
    (tmp_path / "unbound.conf").write_text(UNBOUND)
    process = server.start("unbound", "-d", "-c", "unbound.conf", cwd=tmp_path)
    try:
        ask = ("dig", "+short", "+timeout=1", f"@{SERVER6}", "www.example.com")
        while client.run(*ask, check=False).stdout != "192.0.2.80\n":
            assert process.poll() is None, (tmp_path / "unbound.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def _asked(rows: list[dict[str, str]]) -> Counter[tuple[str, ...]]:
    keys = ("SrcAddr", "DstAddr", "DstPort", "RecordType", "Domain")
    return Counter(tuple(row[key] for key in keys) for row in rows)


@pytest.mark.usefixtures("resolver")
def test_what_clients_ask_a_resolver_is_recorded_once(
    ends: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    """Over UDP and TCP, IPv4 and IPv6, each question of dig and dnsperf is one record."""
    need("dnsperf")
    client, server = ends
    program = Program(server, tmp_path)
    expected: Counter[tuple[str, ...]] = Counter()
    for source, address in ((CLIENT4, SERVER4), (CLIENT6, SERVER6)):
        for transport in ("+notcp", "+tcp"):
            for question in ("A", "AAAA"):
                name = "WWW.Example.COM"
                client.run("dig", "+short", transport, f"@{address}", name, question)
                expected[source, address, "53", question, name.lower()] += 1
            client.run("dig", "+short", transport, f"@{address}", "-x", "192.0.2.80")
            expected[source, address, "53", "PTR", "80.2.0.192.in-addr.arpa"] += 1
    names = [f"host{number}.example.com" for number in range(500)]
    (tmp_path / "names").write_text("".join(f"{name} A\n" for name in names))
    for mode in ("udp", "tcp"):
        client.run("dnsperf", "-m", mode, "-s", SERVER4, "-d", str(tmp_path / "names"), "-n", "2")
    expected.update({(CLIENT4, SERVER4, "53", "A", name): 4 for name in names})
    account = program.stop()
    assert _asked(program.rows()) == expected
    assert account["lost"] == {"kernel_dropped": 0, "left_in_ring": 0}


def test_a_fragmented_query_is_recorded(ends: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """A datagram larger than the interface takes is put together again, in both families."""
    client, server = ends
    for end in ends:
        end.ip("link set eth0 mtu 1400")
    program = Program(server, tmp_path)

    def send() -> None:
        for family, address in ((socket.AF_INET, SERVER4), (socket.AF_INET6, SERVER6)):
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(dns_query("www.example.com") + bytes(4000), (address, 53))

    client.call(send)
    account = program.stop()
    expected = [(source, server, "53", "A", "www.example.com")
                for source, server in ((CLIENT4, SERVER4), (CLIENT6, SERVER6))]  # fmt: skip
    assert _asked(program.rows()) == Counter(expected)
    assert account["refused"] == {"fragment_joined": 4}


@pytest.fixture(name="capture", scope="module")
def _capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a capture of 50,000 frames."""
    path = tmp_path_factory.mktemp("replay") / "bench.pcap"
    generator = ROOT / "tests" / "bench" / "generate.py"
    subprocess.run([sys.executable, generator, "50000", path], check=True, capture_output=True)
    return path


def test_every_frame_of_a_replay_is_accounted_for(
    ends: tuple[Namespace, Namespace], tmp_path: Path, capture: Path
) -> None:
    """As fast as the wire goes, each frame on port 53 is a record or is counted with its reason."""
    need("tcpreplay")
    client, server = ends
    program = Program(server, tmp_path)
    client.run("tcpreplay", "-q", "--topspeed", "-i", "eth0", str(capture))
    account = program.stop()
    rows = program.rows()

    offline = tmp_path / "offline.csv"
    done = subprocess.run(
        [sys.executable, "-m", "dnsqmon", "-r", capture, "-w", "csv", "-f", offline,
         "--stats", "json"],
        env=ENVIRONMENT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    expected = json.loads(done.stderr)
    other_port = expected["refused"].pop("other_port")
    assert account["captured"] == expected["captured"] - other_port
    assert account["lost"] == {"kernel_dropped": 0, "left_in_ring": 0}
    assert account["refused"] == expected["refused"]
    without_time = [{**row, "Date": "", "Time": ""} for row in rows]
    with offline.open(newline="") as file:
        assert without_time == [{**row, "Date": "", "Time": ""} for row in csv.DictReader(file)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_under_load_writes_what_was_captured(
    ends: tuple[Namespace, Namespace], tmp_path: Path, capture: Path, number: int
) -> None:
    """A signal in the middle of a flood: what had been captured is written, nothing is lost."""
    need("tcpreplay")
    client, server = ends
    program = Program(server, tmp_path, "-t", "60")
    flood = client.start(
        "tcpreplay", "-q", "--topspeed", "--loop", "1000", "-i", "eth0", str(capture),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(1)
    account = program.stop(number)
    assert flood.poll() is None
    flood.terminate()
    flood.wait()
    assert account["records"] == len(program.rows()) > 0
    assert account["held"] == 0


def test_an_interface_removed_in_mid_capture(
    ends: tuple[Namespace, Namespace], tmp_path: Path, capture: Path
) -> None:
    """The program says so, waits, goes on with the interface's successor, and has lost no count."""
    need("tcpreplay")
    client, server = ends
    program = Program(server, tmp_path)
    flood = client.start(
        "tcpreplay", "-q", "--topspeed", "--loop", "1000", "-i", "eth0", str(capture),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(0.5)
    server.ip("link del eth0")
    flood.terminate()
    flood.wait()
    assert program.process.stderr is not None
    assert "interface eth0 is down" in program.process.stderr.readline()
    client.ip(f"link add eth0 type veth peer name eth0 netns {server.name}")
    for end in ends:
        end.ip("link set eth0 up")
    assert "interface eth0 is back" in program.process.stderr.readline()
    packet = ipv4(CLIENT4, SERVER4, 17, udp(4242, 53, dns_query("after.example.com")))
    client.send_frames("eth0", [ethernet(packet)])
    account = program.stop()
    assert account["records"] == len(program.rows()) > 1
    assert program.rows()[-1]["Domain"] == "after.example.com"


def test_killed_and_started_again(
    ends: tuple[Namespace, Namespace], tmp_path: Path, capture: Path
) -> None:
    """After kill -9 under load the file is appended to; only its last line may be cut off."""
    need("tcpreplay")
    client, server = ends
    program = Program(server, tmp_path, "-t", "1")
    client.run("tcpreplay", "-q", "--topspeed", "-i", "eth0", str(capture))
    flood = client.start(
        "tcpreplay", "-q", "--topspeed", "--loop", "1000", "-i", "eth0", str(capture),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while program.csv.read_text().count("\n") < 2:
        time.sleep(0.02)
    program.process.kill()
    program.process.communicate()
    flood.terminate()
    flood.wait()
    before = program.csv.read_text()
    program = Program(server, tmp_path)
    packet = ipv4(CLIENT4, SERVER4, 17, udp(4242, 53, dns_query("after.example.com")))
    client.send_frames("eth0", [ethernet(packet)])
    program.stop()
    after = program.csv.read_text()
    assert after.startswith(before)
    assert after.count("Date,Time") == 1
    assert program.rows()[-1]["Domain"] == "after.example.com"
    # The kernel may end a write of the killed process in mid-line; the next run ends that line.
    cut = [line for line in after.splitlines() if line.count(",") != 13]
    assert cut in ([], before.splitlines()[-1:])


def test_the_account_is_shown_on_demand(ends: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """SIGUSR1 shows it, --metrics serves it, and the status line comes every -t seconds."""
    need("curl")
    client, server = ends
    program = Program(server, tmp_path, "-t", "1", "--metrics", "127.0.0.1:9153", "-d")
    assert program.process.stdout is not None
    assert program.process.stderr is not None
    packet = ipv4(CLIENT4, SERVER4, 17, udp(4242, 53, dns_query("www.example.com")))
    client.send_frames("eth0", [ethernet(packet)])
    assert "www.example.com" in program.process.stdout.readline()
    assert "Total packets received: 1 - Inspected DNS Queries: 1 (100.0%)" in (
        program.process.stdout.readline()
    )
    program.process.send_signal(signal.SIGUSR1)
    assert program.process.stderr.readline().split() == ["1", "packets", "captured"]
    for line in program.process.stderr:
        if "evicted" in line:
            break
    text = server.run("curl", "-s", "http://127.0.0.1:9153/metrics").stdout
    assert "dnsqmon_captured_packets_total 1\n" in text
    program.stop()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-i", "eth77"), "--interface eth77: there is no such interface"),
        (("-i", "any", "-i", "lo"), "--interface any already watches every interface"),
        (("--filter", "udp port"), "--filter 'udp port': "),
        (("--user", "nosuchuser"), "--user nosuchuser: there is no such user"),
        (("--engine", "scapy", "-i", "eth77"), "--engine scapy --interface eth77: "),
        (("--stats-file", "/nowhere/stats"), "--stats-file /nowhere/stats: cannot write"),
        (("--metrics", "9153"), "--metrics 9153: give ADDRESS:PORT"),
        (("--ring-size", "0"), "--ring-size 0: give a whole number from 1"),
        (("-f", "/nowhere/queries.csv", "-w", "csv"), "/nowhere/queries.csv: cannot write"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    arguments: tuple[str, ...], sentence: str
) -> None:
    """A mistake ends the program with exit code 2 and a line that names the setting."""
    need_root()
    given = arguments if "-i" in arguments else ("-i", "lo", *arguments)
    given = given if "--user" in given else (*given, "--user", "root")
    done = subprocess.run(
        [sys.executable, "-m", "dnsqmon", "-d", *given],
        env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
