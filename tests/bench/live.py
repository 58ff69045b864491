"""Prints what live capture takes and loses, beside tcpdump and dnscap under the same replays.

`make bench-live`, or `python tests/bench/live.py [--frames N] [--runs N]`, as root. tcpreplay sends
a capture over a cable between two network namespaces of this program's own, once as fast as it can
and once for ten seconds at 200,000 frames a second; one program at a time listens at the far end.
The rate that tcpreplay reached is part of the figures: where it sends less, less is proven.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import generate

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
sys.path.insert(0, str(ROOT / "tests"))

from namespaces import Namespace, veth_pair  # noqa: E402 - lies beside this folder, no package

#: Frames a second and seconds of the sustained replay.
RATE, SECONDS = 200_000, 10


class Figures(NamedTuple):
    """What one program did under one replay."""

    sent: float  # frames a second
    seen: int
    dropped: int
    cpu: float  # seconds, user and system
    stop: float  # seconds from the signal to the end
    memory: int  # MB


def main() -> None:
    """Generate the capture if it is not there, run every program under every replay."""
    parser = argparse.ArgumentParser(description="Compare live capture.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make network namespaces as root")
    capture = CACHE / f"{arguments.frames}.pcap"
    if not capture.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        generate.write(capture, arguments.frames, 1)
    expected = _on_port_53(capture)
    total = RATE * SECONDS
    replays = {
        f"{arguments.frames:,} frames at top speed": (["--topspeed"], 1),
        f"{total:,} frames at {RATE:,} a second": (
            [f"--pps={RATE}", f"--loop={total // arguments.frames}"], total // arguments.frames,
        ),
    }  # fmt: skip
    with veth_pair() as (near, far), tempfile.TemporaryDirectory() as scratch:
        for title, (speed, times) in replays.items():
            sys.stdout.write(f"\n{title}, {expected * times:,} of them DNS\n")
            sys.stdout.write(
                f"{'':16} {'sent/s':>9} {'seen':>10} {'dropped':>8} {'unaccounted':>12} "
                f"{'CPU s':>6} {'stop s':>7} {'MB':>5}\n"
            )
            for name, command in _commands(Path(scratch)).items():
                if not shutil.which(command[0]):
                    continue
                for _ in range(arguments.runs):
                    figures = _measure(near, far, command, [*speed, str(capture)])
                    missing = expected * times - figures.seen - figures.dropped
                    sys.stdout.write(
                        f"{name:16} {figures.sent:9,.0f} {figures.seen:10,} {figures.dropped:8,} "
                        f"{missing:12,} {figures.cpu:6.1f} {figures.stop:7.2f} "
                        f"{figures.memory:5}\n"
                    )
                    sys.stdout.flush()
        _stop_in_flood(near, far, Path(scratch), capture)
        _idle(far, Path(scratch))


def _commands(scratch: Path) -> dict[str, list[str]]:
    """Return each program's way to capture DNS on eth0; all end by SIGINT."""
    lists = [
        f"--{name}list={ROOT}/lookups/dnsqmon_{name}list.csv"
        for name in ("watch", "common", "server")
    ]
    return {
        "dnsqmon -w csv": [
            sys.executable, "-m", "dnsqmon", "-i", "eth0", "-w", "csv", *lists, "--user", "root",
            "-f", str(scratch / "queries.csv"), "--stats-file", str(scratch / "stats"),
        ],
        "tcpdump -w": [
            "tcpdump", "-n", "-i", "eth0", "-B", "65536", "-w", "/dev/null", "port 53",
        ],
        "dnscap -w": [
            "dnscap", "-N", "-i", "eth0", "-T", "-f", "-S", "-w", str(scratch / "dnscap"),
        ],
    }  # fmt: skip


def _measure(near: Namespace, far: Namespace, command: list[str], replay: list[str]) -> Figures:
    process = far.start(
        *command,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    time.sleep(2)
    sent = near.run("tcpreplay", "-q", "-K", "-i", "eth0", *replay, timeout=300).stdout
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stop = time.perf_counter() - start
    seen, dropped = _counts(command, errors)
    return Figures(
        sent=float(re.findall(r"([\d.]+) pps", sent)[0]),
        seen=seen,
        dropped=dropped,
        cpu=usage.ru_utime + usage.ru_stime,
        stop=stop,
        memory=usage.ru_maxrss // 1024,
    )


def _counts(command: list[str], errors: str) -> tuple[int, int]:
    """Return what a program says it saw and what it says was dropped."""
    if command[0] == "tcpdump":
        captured = re.findall(r"(\d+) packets? captured", errors)
        dropped = re.findall(r"(\d+) packets? dropped by kernel", errors)
    elif command[0] == "dnscap":
        captured = re.findall(r"(\d+) recv", errors)
        dropped = re.findall(r"(\d+) drop ", errors)
    else:
        account = json.loads(Path(command[-1]).read_text(encoding="utf-8").splitlines()[-1])
        accounted = account["records"] + sum(account["refused"].values()) - account["pipelined"]
        return accounted, sum(account["lost"].values())
    return int(captured[0]), int(dropped[0])


def _on_port_53(capture: Path) -> int:
    """Count the frames of a capture that are DNS, by another program than the one measured."""
    command = ["tcpdump", "-nr", str(capture), "-w", "-", "port 53 or (vlan and port 53)"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    count = subprocess.run(
        ["tcpdump", "-nr", "-", "--count"],
        stdin=reader.stdout, check=True, capture_output=True, text=True,
    )  # fmt: skip
    reader.wait()
    return int(re.findall(r"(\d+) packets?", count.stdout)[0])


def _stop_in_flood(near: Namespace, far: Namespace, scratch: Path, capture: Path) -> None:
    """Print how long the program takes to end while frames come as fast as they can be sent."""
    process = far.start(
        *_commands(scratch)["dnsqmon -w csv"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
        stdout=subprocess.DEVNULL,
    )
    flood = near.start(
        "tcpreplay", "-q", "-K", "--topspeed", "--loop=1000", "-i", "eth0", str(capture),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(SECONDS)
    start = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait()
    stop = time.perf_counter() - start
    flood.terminate()
    flood.wait()
    account = json.loads((scratch / "stats").read_text(encoding="utf-8").splitlines()[-1])
    sys.stdout.write(
        f"\nSIGTERM after {SECONDS} seconds of flood: ended in {stop:.2f} s, exit code "
        f"{process.returncode}, {account['packets']:,} packets inspected, "
        f"{account['lost']['kernel_dropped']:,} counted as dropped\n"
    )


def _idle(far: Namespace, scratch: Path) -> None:
    """Print how much of a core the program takes when there is nothing to do."""
    process = far.start(
        *_commands(scratch)["dnsqmon -w csv"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
        stdout=subprocess.DEVNULL,
    )
    time.sleep(3)
    ticks = [_ticks(process.pid)]
    time.sleep(SECONDS)
    ticks.append(_ticks(process.pid))
    process.send_signal(signal.SIGINT)
    process.wait()
    used = (ticks[1] - ticks[0]) / os.sysconf("SC_CLK_TCK") / SECONDS
    sys.stdout.write(f"\nidle for {SECONDS} seconds: {used:.2%} of one core\n")


def _ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime of proc(5)


if __name__ == "__main__":
    main()
