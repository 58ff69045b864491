"""Measure forwarding: records a second into real receivers, and what was lost; a Markdown table.

Needs rsyslog and rsyslog-openssl. The receivers run on the same machine and share its processors.
"""

from __future__ import annotations

import argparse
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import trustme

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from dnsqmon.core.addresses import hec_url, syslog_address  # noqa: E402
from dnsqmon.sinks.destination import tls_context  # noqa: E402
from dnsqmon.sinks.hec import hec  # noqa: E402
from dnsqmon.sinks.relay import relay_client  # noqa: E402
from dnsqmon.sinks.spool import Spool  # noqa: E402
from dnsqmon.sinks.stream import by_newline, by_octet_count  # noqa: E402
from dnsqmon.sinks.syslog import Messages, syslog  # noqa: E402
from forwarded import batch  # noqa: E402 - found through the path above
from hec_server import TOKEN, HecServer  # noqa: E402
from receivers import Rsyslog, free_ports, wait_until  # noqa: E402

if TYPE_CHECKING:
    from dnsqmon.sinks.forward import Forward

SIZE = 1000
NAME = re.compile(rb"q\d+\.example\.com")
KEY = b"0123456789abcdef" * 2


def main() -> int:
    """Run every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000, help="records a row")
    records = parser.parse_args().records
    tell("| destination | spool | records | arrived/s | lost | arrived twice |")
    tell("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key in (None, KEY):
            relay_row(folder, key)
        syslog_rows(folder, records)
        for ack in (False, True):
            hec_row(folder, records, ack=ack)
    return 0


def relay_row(folder: Path, key: bytes | None) -> None:
    """Send 50,000 records a second for ten seconds to a server that writes CSV."""
    (port,) = free_ports(1)
    out = folder / f"{'signed' if key else 'plain'}.csv"
    command = [
        sys.executable, "-m", "dnsqmon", "--server", "127.0.0.1", "-p", str(port), "--utc",
        "-w", "csv", "-f", str(out), "-t", "1", "--user", "root",
    ]  # fmt: skip
    if key:
        (folder / "key").write_bytes(key)
        (folder / "key").chmod(0o600)
        command += ["--key-file", str(folder / "key")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bin")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as server:
        wait_until(out.exists, "the server listens")
        time.sleep(1)
        sink = relay_client("127.0.0.1", port, Spool(None, 1 << 28), key)
        label = f"relay{', signed' if key else ''}, UDP, sent at 50,000/s"
        measure(label, sink, 500_000, Tail(out).names, pace=50_000)
        server.terminate()


def syslog_rows(folder: Path, records: int) -> None:
    """Send to one rsyslog over TCP and TLS, with the spool in memory and in a file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
    context = tls_context(ca=str(folder / "ca.pem"), certificate=None, key=None, verify=True)
    for scheme, frame, connections, durable, kill in (
        ("tcp", by_newline, 1, False, False),
        ("tcp", by_newline, 1, True, False),
        ("tcp", by_octet_count, 4, True, False),
        ("tls", by_octet_count, 1, True, False),
        ("tcp", by_newline, 1, True, True),
        ("tls", by_octet_count, 1, True, True),
    ):
        name = f"{scheme}-{connections}-{durable}-{kill}"
        receiver = Rsyslog(folder / name, ca=folder / "ca.pem", certificate=folder / "server.pem")
        port = receiver.tls if scheme == "tls" else receiver.tcp
        sink = syslog(
            [syslog_address(f"{scheme}://127.0.0.1:{port}")] * connections,
            Messages("rfc5424", "user", "info"),
            Spool(str(folder / f"{name}.db") if durable else None, 1 << 30),
            frame=frame,
            context=context,
        )
        label = f"rsyslog, {scheme.upper()}, {connections} connection{'s' * (connections > 1)}"
        label += ", killed twice on the way" * kill
        arrived = Tail(receiver.folder / "out.json").names

        def kill_it(receiver: Rsyslog = receiver) -> None:
            receiver.kill()
            receiver.start()

        pace = 20_000 if kill else 0
        measure(
            label,
            sink,
            records,
            arrived,
            pace=pace,
            durable=durable,
            kill=kill_it if kill else None,
        )
        receiver.stop()


def hec_row(folder: Path, records: int, *, ack: bool) -> None:
    """Send to two stand-ins of HEC, which are threads of this process and set the pace."""
    collectors = [HecServer(ack=ack), HecServer(ack=ack)]
    sink = hec(
        [hec_url(collector.url) for collector in collectors],
        TOKEN,
        Spool(str(folder / f"hec-{ack}.db"), 1 << 30),
        context=ssl.create_default_context(),
        ack=ack,
    )

    def arrived() -> Counter[str]:
        events = [event["event"] for collector in collectors for event in collector.events]
        return Counter(event.split(",", 9)[8] for event in events)

    label = f"HEC, 2 stand-ins in this process{', acknowledged' if ack else ''}"
    measure(label, sink, records, arrived, durable=True)
    for collector in collectors:
        collector.stop()


class Tail:
    """Counts the records in a file that grows, by their names, reading each byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._names: Counter[str] = Counter()

    def names(self) -> Counter[str]:
        """Return what is in the file by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                name = NAME.search(line)
                if name:
                    self._names[name[0].decode()] += 1
        return self._names


def measure(
    label: str,
    sink: Forward,
    records: int,
    arrived: Callable[[], Counter[str]],
    *,
    pace: int = 0,
    durable: bool = False,
    kill: Callable[[], None] | None = None,
) -> None:
    """Write all records, wait until the number that arrives stands still, print the row."""
    batches = [batch(SIZE, first) for first in range(0, records, SIZE)]
    began = time.monotonic()
    for number, one in enumerate(batches):
        sink.write(one)
        if kill and number in (len(batches) // 3, len(batches) * 2 // 3):
            kill()
        if pace:
            time.sleep(max(0.0, began + (number + 1) * SIZE / pace - time.monotonic()))
    while len(arrived()) < records and time.monotonic() - began < 120:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    sink.close()
    time.sleep(0.5)
    came = arrived()
    tell(
        f"| {label} | {'file' if durable else 'memory'} | {records:,} | {records / seconds:,.0f} "
        f"| {records - len(came):,} | {sum(came.values()) - len(came):,} |"
    )


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
