"""Prints how fast captures are read, beside tcpdump, dnscap, passivedns and tshark.

`make bench`, or `python tests/bench/offline.py [--frames N] [--runs N]`. Each program reads the
same capture and writes text, in turn, `runs` times; the table gives the median, and the ratio to
`tcpdump -nr`. Programs that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import generate

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
#: Queries of the capture whose names are all different, to show what memory they take.
FLOOD = 500_000

sys.path.insert(0, str(ROOT / "tests"))

import craft  # noqa: E402 - lies beside this folder, no package


def main() -> None:
    """Generate the capture if it is not there, run every program in turn, print the table."""
    parser = argparse.ArgumentParser(description="Compare offline speed.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    capture = CACHE / f"{arguments.frames}.pcap"
    if not capture.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        generate.write(capture, arguments.frames, 1)
    with tempfile.TemporaryDirectory() as scratch:
        commands = {
            name: command
            for name, command in _commands(capture, Path(scratch)).items()
            if shutil.which(command[0])
        }
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        for _ in range(arguments.runs):
            for name, command in commands.items():
                runs[name].append(_run(command))
        flood = Path(scratch) / "flood.pcap"
        _write_flood(flood)
        _, memory = _run(_commands(flood, Path(scratch))["dnsqmon -w csv"])
    _show(runs, arguments.frames)
    sys.stdout.write(
        f"dnsqmon -w csv, {FLOOD:,} queries for as many domains: peak {memory / 1024:.0f} MB\n"
    )


def _write_flood(path: Path) -> None:
    """Write a capture in which every query is for a domain that was never seen before.

    Piece by piece: a program that is started counts the memory of the one that starts it.
    """
    with path.open("wb") as file:
        file.write(craft.pcap([]))
        for number in range(FLOOD):
            message = craft.dns_query(f"www.{number:x}-flood.example", 1)
            datagram = craft.udp(4000, 53, message)
            packet = craft.ipv4("192.0.2.1", "192.0.2.2", craft.UDP, datagram)
            file.write(craft.pcap_record(craft.TIME + number, craft.ethernet(packet)))


def _commands(capture: Path, scratch: Path) -> dict[str, list[str]]:
    """Return each program's way to read the capture and write a line a packet or query."""
    lists = [
        f"--{name}list={ROOT}/lookups/dnsqmon_{name}list.csv"
        for name in ("watch", "common", "server")
    ]
    # tshark and tcpdump print other things than a query: tshark is made to print just that.
    fields = (
        "frame.time_epoch ip.src ipv6.src udp.srcport ip.dst ipv6.dst udp.dstport dns.qry.type "
        "dns.qry.name"
    )
    queries = ["-Y", "dns.flags.response == 0", "-T", "fields"]
    for field in fields.split():
        queries += ["-e", field]
    dnsqmon = [sys.executable, "-m", "dnsqmon", "-r", str(capture)]
    return {
        "dnsqmon -w csv": [*dnsqmon, "-w", "csv", "-f", str(scratch / "queries.csv"), *lists],
        "dnsqmon -w sql": [*dnsqmon, "-w", "sql", "-f", str(scratch / "queries.db"), *lists],
        "dnsqmon --json": [*dnsqmon, "--json", *lists],
        "tcpdump -nr": ["tcpdump", "-nr", str(capture)],
        "dnscap -g": ["dnscap", "-r", str(capture), "-g"],
        "passivedns": ["passivedns", "-r", str(capture), "-l", str(scratch / "passivedns.log")],
        "tshark -r": ["tshark", "-n", "-r", str(capture), *queries],
    }


def _run(command: list[str]) -> tuple[float, int]:
    """Run a command; give its seconds and its peak memory in kB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bin")}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss


def _show(runs: dict[str, list[tuple[float, int]]], frames: int) -> None:
    """Print one line a program."""
    medians = {
        name: statistics.median(seconds for seconds, _ in figures) for name, figures in runs.items()
    }
    base = medians.get("tcpdump -nr")
    sys.stdout.write(f"Python {sys.version.split()[0]}, {frames:,} frames, median of runs\n")
    sys.stdout.write(f"{'':16} {'seconds':>8} {'frames/s':>10} {'x tcpdump':>10} {'peak MB':>8}\n")
    for name, seconds in medians.items():
        memory = max(kilobytes for _, kilobytes in runs[name]) / 1024
        ratio = f"{base / seconds:10.2f}" if base else f"{'':>10}"
        rate = frames / seconds
        sys.stdout.write(f"{name:16} {seconds:8.2f} {rate:10,.0f} {ratio} {memory:8.0f}\n")


if __name__ == "__main__":
    main()
