"""Forwarding by the command: what is asked for arrives, and survives every end of the sensor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Callable

import pytest

from command import ENVIRONMENT, run, start, wait_for
from dnsqmon.assembly.network import network_sinks, read_secrets
from dnsqmon.config.settings import read_settings
from dnsqmon.relay.wire import plain_datagram
from dnsqmon.sinks.hec import Events
from dnsqmon.sinks.syslog import Messages
from forwarded import batch, names
from hec_server import TOKEN, HecServer
from needs import ROOT
from receivers import Rsyslog, free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEMO = ROOT / "tests" / "data" / "demo.pcap"


@pytest.fixture(name="lines")
def _lines(tmp_path: Path) -> list[str]:
    """Return the records of the demo capture, as -w csv writes them."""
    assert run("-r", DEMO, "--utc", "-n", "s", "-w", "csv", "-f", "x.csv", cwd=tmp_path)[0] == 0
    return (tmp_path / "x.csv").read_text().splitlines()[1:]


@pytest.fixture(name="rsyslog")
def _rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    receiver = Rsyslog(tmp_path / "rsyslog")
    yield receiver
    receiver.stop()


def forward(*arguments: object, cwd: Path) -> dict[str, dict[str, int]]:
    """Read the demo capture and forward it; give the counts of the sinks."""
    command = ("-r", DEMO, "--utc", "-n", "s", "--stats", "json", *arguments)
    code, _, error = run(*command, cwd=cwd)
    assert code == 0, error
    sinks: dict[str, dict[str, int]] = json.loads(error.splitlines()[-1])["sinks"]
    return sinks


@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
def test_client_to_server(tmp_path: Path, lines: list[str], signed: bool) -> None:
    """A server writes the very lines that its client would have written itself."""
    (port,) = free_ports(1)
    both: list[object] = ["-p", port, "--utc"]
    if signed:
        key = tmp_path / "key"
        key.write_text("0123456789abcdef" * 2)
        key.chmod(0o600)
        both += ["--key-file", key]
    (tmp_path / "server").mkdir()
    arguments = ("--server", "127.0.0.1", "-w", "csv", "-f", "y.csv", "-t", 1, "--user", "root")
    server = start(*arguments, *both, "--stats", "json", cwd=tmp_path / "server")
    out = tmp_path / "server" / "y.csv"
    wait_for(lambda: listens_udp(port), "the server to listen")
    code, _, error = run("-r", DEMO, "-n", "s", "--client", "127.0.0.1", *both, cwd=tmp_path)
    assert code == 0, error
    wait_for(lambda: out.read_text().count("\n") > len(lines), "all records")
    server.send_signal(signal.SIGTERM)
    _, error_bytes = server.communicate(timeout=30)
    assert server.returncode == 0
    assert out.read_text().splitlines()[1:] == lines
    counts = json.loads(error_bytes.splitlines()[-1])
    assert counts["captured"] == counts["packets"] == counts["records"] == len(lines)
    assert counts["adds_up"]


@pytest.mark.real
@pytest.mark.parametrize("form", ["rfc3164", "rfc5424", "original"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_syslog(tmp_path: Path, lines: list[str], rsyslog: Rsyslog, scheme: str, form: str) -> None:
    """An rsyslog gets every record of a capture file, whatever the transport and the format."""
    address = f"{scheme}://127.0.0.1:{rsyslog.udp if scheme == 'udp' else rsyslog.tcp}"
    sinks = forward("--syslog", address, "--syslog-format", form, cwd=tmp_path)
    assert sinks[f"syslog {address}"]["written"] == len(lines)
    wait_for(lambda: len(rsyslog.messages()) == len(lines), "all messages")
    assert [one["raw"].rpartition(" ")[2] for one in rsyslog.messages()] == lines


@pytest.mark.real
def test_several_destinations_and_connections(
    tmp_path: Path, lines: list[str], rsyslog: Rsyslog
) -> None:
    """Each destination gets every record; several connections to one share them."""
    udp, tcp = f"udp://127.0.0.1:{rsyslog.udp}", f"tcp://127.0.0.1:{rsyslog.tcp}"
    sinks = forward("--syslog", f"{udp},{tcp}", "--syslog-connections", 3, cwd=tmp_path)
    assert {name: counts["written"] for name, counts in sinks.items()} == {
        f"syslog {udp}": len(lines),
        f"syslog {tcp}": len(lines),
    }
    wait_for(lambda: len(rsyslog.messages()) == 2 * len(lines), "all messages")
    raw = [one["raw"].rpartition(" ")[2] for one in rsyslog.messages()]
    assert sorted(raw) == sorted(2 * lines)


@pytest.mark.parametrize("token_in", ["file", "environment"])
def test_hec(
    tmp_path: Path, lines: list[str], token_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector gets every record; the token comes from a file or the environment."""
    collector = HecServer(ack=True)
    arguments: list[object] = ["--hec", collector.url, "--hec-ack", "--hec-index", "dns"]
    if token_in == "file":
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        arguments += ["--hec-token-file", "token"]
    else:
        monkeypatch.setitem(ENVIRONMENT, "DNSQMON_HEC_TOKEN", TOKEN)
    sinks = forward(*arguments, cwd=tmp_path)
    assert [event["event"] for event in collector.events] == lines
    assert {event["host"] for event in collector.events} == {"s"}
    (counts,) = sinks.values()
    assert counts["written"] == len(lines)
    collector.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--server 127.0.0.1 -d", "leave out one of them"),
        ("--syslog http://x", "--syslog http://x: give host, host:port"),
        ("--syslog x --syslog-format json", "--syslog-format json: give rfc3164 or rfc5424"),
        ("--syslog x --syslog-facility local8", "--syslog-facility local8"),
        ("--syslog x --syslog-max 100", "--syslog-max 100: give a whole number from 480 to 65507"),
        ("--syslog tls://x --tls-ca demo", "--tls-ca: no CA certificates could be read"),
        ("--syslog tls://x --tls-cert demo", "--tls-cert: no certificate with its key"),
        ("--syslog tcp://x --spool-dir demo", "--spool-dir: cannot be made"),
        ("--syslog tcp://x --spool-max 1k", "--spool-max 1k: give a size of at least 1M"),
        ("--hec https://x", "--hec needs the collector's token"),
        ("--hec https://x --hec-token-file demo", "--hec needs the collector's token"),
        ("--hec https://x --hec-token-file none", "--hec-token-file: cannot be read"),
        ("--hec x", "--hec x: give https://host:port"),
        ("--client x --key-file demo", "--key-file: "),
        ("--client x --allow 10.0.0.1/8", "--allow 10.0.0.1/8: give a network"),
    ],
)
def test_refusals(tmp_path: Path, arguments: str, words: str) -> None:
    """What cannot be sent as asked is refused with one line that says what to do, exit code 2."""
    (tmp_path / "demo").write_text("x\n")
    code, _, error = run("-r", DEMO, *arguments.split(), cwd=tmp_path)
    assert code == 2
    assert words in error
    assert error.count("\n") == 1


# --- The end of the sensor -----------------------------------------------------------------------


def listens_udp(port: int) -> bool:
    """Say whether the UDP port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@pytest.mark.real
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_sensor_that_ends_while_its_receiver_is_dead(
    tmp_path: Path, rsyslog: Rsyslog, end: signal.Signals
) -> None:
    """What a sensor took before it was ended goes out when it and its receiver are back."""
    rsyslog.kill()
    (port,) = free_ports(1)
    command = (
        "--server", "127.0.0.1", "-p", port, "--syslog", f"tcp://127.0.0.1:{rsyslog.tcp}",
        "--spool-dir", tmp_path / "spool", "-t", 1, "--stats-file", tmp_path / "stats",
        "--user", "root",
    )  # fmt: skip
    sensor = start(*command, cwd=tmp_path)
    wait_for(lambda: listens_udp(port), "the sensor to listen")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for line in batch(3000).lines("csv"):
            client.sendto(plain_datagram(line.encode()), ("127.0.0.1", port))
    wait_for(lambda: counted(tmp_path / "stats").get("waiting") == 3000, "3000 records to wait")
    sensor.send_signal(end)
    sensor.communicate(timeout=30)
    assert sensor.returncode == (-9 if end == signal.SIGKILL else 0)
    rsyslog.start()
    again = start(*command, cwd=tmp_path)
    expected = [f"q{number}.example.com" for number in range(3000)]
    wait_for(lambda: len(rsyslog.messages()) >= 3000, "all records")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert again.returncode == 0
    assert names([one["raw"] for one in rsyslog.messages()]) == expected
    assert counted(tmp_path / "stats") == {"written": 3000, "waiting": 0, "resumed": 3000}


def counted(path: Path) -> dict[str, int]:
    """Return the counts of the only sink, as of the last account in the file."""
    if not path.exists():
        return {}
    lines = path.read_text().split("\n")[:-1]
    if not lines:
        return {}
    (counts,) = json.loads(lines[-1])["sinks"].values()
    return dict(counts)


def test_what_cannot_be_sent_is_said_at_the_end(tmp_path: Path) -> None:
    """Without a spool directory, records for a dead receiver are lost at the end: exit code 1."""
    server_port, port = free_ports(2)
    sensor = start(
        "--server", "127.0.0.1", "-p", server_port, "--user", "root",
        "--syslog", f"tcp://127.0.0.1:{port}", "-t", 1, "--stats-file", "stats", cwd=tmp_path,
    )  # fmt: skip
    wait_for(lambda: listens_udp(server_port), "the sensor to listen")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for line in batch(5).lines("csv"):
            client.sendto(plain_datagram(line.encode()), ("127.0.0.1", server_port))
    wait_for(lambda: counted(tmp_path / "stats").get("waiting") == 5, "5 records to wait")
    sensor.send_signal(signal.SIGTERM)
    _, error = sensor.communicate(timeout=30)
    assert sensor.returncode == 1
    assert b"5 records could not be sent before the end and are lost" in error


def test_dead_receivers_are_given_up_together(tmp_path: Path) -> None:
    """When the first sink is closed, all stop: each has then had its time when its turn comes."""
    dead = free_ports(3)
    (tmp_path / "token").write_text(TOKEN)
    settings = read_settings(
        {
            "interface": ["lo"],
            "syslog": [f"tcp://127.0.0.1:{dead[0]}", f"tcp://127.0.0.1:{dead[1]}"],
            "hec": [f"http://127.0.0.1:{dead[2]}"],
            "hec_token_file": str(tmp_path / "token"),
        }
    )
    before = set(threading.enumerate())
    sinks = list(network_sinks(settings, read_secrets(settings, None)))
    senders = set(threading.enumerate()) - before
    assert len(senders) == len(sinks) == 3
    sinks[0].close()
    wait_until(lambda: not any(sender.is_alive() for sender in senders), "all senders end")
    for sink in sinks[1:]:
        sink.close()


_SENDER = """
import ssl, sys
sys.path[:0] = sys.argv[1:3]
from forwarded import batch
from hec_server import TOKEN
from dnsqmon.core.addresses import hec_url, syslog_address
from dnsqmon.sinks.hec import hec
from dnsqmon.sinks.spool import Spool
from dnsqmon.sinks.stream import by_newline
from dnsqmon.sinks.syslog import Messages, syslog
kind, where, path, first, count = *sys.argv[3:6], int(sys.argv[6]), int(sys.argv[7])
spool, context = Spool(path, 1 << 30), ssl.create_default_context()
if kind == "hec":
    sink = hec([hec_url(where)], TOKEN, spool, context=context)
else:
    messages = Messages("rfc3164", "user", "info", utc=True)
    sink = syslog([syslog_address(where)], messages, spool, frame=by_newline, context=context)
for number in range(first, first + count, 50):
    sink.write(batch(50, number))
    print(number + 50, flush=True)
sink.close()
print(sink.counts())
"""


@pytest.mark.real
@pytest.mark.parametrize("kind", ["tcp", "hec"])
def test_kill_under_load_loses_nothing_that_was_accepted(
    tmp_path: Path, rsyslog: Rsyslog, kind: str
) -> None:
    """A sender killed in mid-flight, and started again, delivers all that it had accepted."""
    collector = HecServer()
    where = collector.url if kind == "hec" else f"tcp://127.0.0.1:{rsyslog.tcp}"
    arrived: Callable[[], list[str]] = {
        "hec": lambda: [event["event"] for event in collector.events],
        "tcp": lambda: [message["raw"] for message in rsyslog.messages()],
    }[kind]

    def sender(first: int, count: int) -> subprocess.Popen[bytes]:
        paths = [ROOT / "bin", ROOT / "tests"]
        arguments = [*paths, kind, where, tmp_path / "spool.db", first, count]
        command = [sys.executable, "-c", _SENDER, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))

    accepted = 0
    for _ in range(3):
        with sender(accepted, 1_000_000) as process:
            assert process.stdout
            said = [process.stdout.readline() for _ in range(60)]
            process.send_signal(signal.SIGKILL)
            said.extend(process.stdout)
        accepted = int(next(line for line in reversed(said) if line.endswith(b"\n")))
    with sender(accepted, 50) as process:
        assert process.stdout
        last = process.stdout.read().splitlines()[-1]
    assert b"'waiting': 0" in last
    expected = {f"q{number}.example.com" for number in range(accepted + 50)}
    wait_for(lambda: expected <= set(names(arrived())), "every accepted record")
    collector.stop()


def test_what_is_kept_is_small() -> None:
    """A record on its way is its one line: under 480 octets even with a long name."""
    (syslog,) = Messages("rfc3164", "user", "info", utc=True)(batch(1))
    (event,) = Events({})(batch(1))
    longest = 253 - len("q0.example.com")
    assert len(syslog) + longest < 480
    assert len(event) < 2 * len(batch(1).lines("csv")[0])
