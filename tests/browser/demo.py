"""Events of the demo capture: what the sensor writes of it, and what it would tell of itself."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from browser.events import Index
from browser.spl import Window, relative_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERIOD = 3600  # seconds between two statistics events
#: A moment after the last packet of the demo capture: 2026-03-02 17:05 UTC, and the day before it.
NOW = 1_772_471_100.0
DAY = Window(relative_time("-24h@h", NOW), NOW, NOW)
SENSOR = "office"
#: A second sensor, made up so that there is one whose kernel dropped packets.
LOSING = "branch"


def index_of(root: Path, folder: Path) -> Index:
    """Index the records of the demo capture and the statistics, and keep the domains first seen."""
    index = Index(root)
    index.add(records(root, folder), "dnsqmon")
    index.add(statistics(root, folder), "dnsqmon:stats")
    seen = {event["sld"]: event["_time"] for event in index.events if "sld" in event}
    index.collections["dnsqmon_first_seen"] = [
        {"sld": sld, "first_seen": first} for sld, first in seen.items()
    ]
    return index


def records(root: Path, folder: Path) -> list[str]:
    """Run the sensor over the demo capture, all record types, and give its CSV lines."""
    target = folder / "demo.csv"
    _sensor(root, root / "tests" / "data" / "demo.pcap", target)
    return target.read_text().splitlines()[1:]


def statistics(root: Path, folder: Path) -> list[str]:
    """Give statistics events for each hour of the demo capture, with the sensor's own counts."""
    events = []
    lists = dict(_lists(root))
    for number, (end, part) in enumerate(
        _periods(root / "tests" / "data" / "demo.pcap", folder), 1
    ):
        account = _sensor(root, part, folder / f"{end}.csv")
        counts = {
            "captured": account["captured"],
            "pipelined": account["pipelined"],
            "records": account["records"],
            "written": account["records"],
            "below_minimum": 0,
            "held": account["held"],
            **{f"refused_{reason}": count for reason, count in account["refused"].items()},
            "loss_kernel_drops": 0,
        }
        for sensor, drops in ((SENSOR, 0), (LOSING, number % 3)):
            event = {
                "time": float(end), "version": "1.0.0", "sensor": sensor, "input": "eth0",
                "profile": "classic", "uptime": number * PERIOD, "interval": PERIOD,
                **counts, **lists,
                "captured": counts["captured"] + drops, "loss_kernel_drops": drops,
            }  # fmt: skip
            events.append(json.dumps(event))
    return events


def _sensor(root: Path, capture: Path, target: Path) -> dict[str, Any]:
    """Run `dnsqmon -r` as a user would and give the account that it prints."""
    lookups = root / "lookups"
    done = subprocess.run(
        [
            sys.executable, "-m", "dnsqmon", "-r", capture, "--utc", "-n", SENSOR,
            "--types", "all", "--stats", "json", "-w", "csv", "-f", target,
            "--watchlist", lookups / "dnsqmon_watchlist.csv",
            "--commonlist", lookups / "dnsqmon_commonlist.csv",
            "--serverlist", lookups / "dnsqmon_serverlist.csv",
        ],
        cwd=root / "bin", capture_output=True, text=True, check=False,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    account = next(line for line in text.splitlines() if line.startswith("{"))
    return dict(json.loads(account))


def _periods(capture: Path, folder: Path) -> Iterator[tuple[int, Path]]:
    """Cut a classic pcap file: each period's end in epoch seconds, and its frames."""
    data = capture.read_bytes()
    periods: dict[int, bytes] = {}
    at = 24
    while at < len(data):
        seconds, _, size = struct.unpack_from("<III", data, at)
        periods.setdefault(seconds // PERIOD * PERIOD + PERIOD, data[:24])
        periods[seconds // PERIOD * PERIOD + PERIOD] += data[at : at + 16 + size]
        at += 16 + size
    for end, frames in sorted(periods.items()):
        part = folder / f"{end}.pcap"
        part.write_bytes(frames)
        yield end, part


def _lists(root: Path) -> Iterator[tuple[str, object]]:
    """Tell of each list what a statistics event does."""
    for name, days in (("watchlist", 3), ("commonlist", 45), ("serverlist", 1)):
        path = root / "lookups" / f"dnsqmon_{name}.csv"
        content = path.read_bytes()
        yield f"{name}_name", path.name
        yield f"{name}_size", len(content.splitlines()) - 1
        yield f"{name}_age", days * 86400
        yield f"{name}_hash", hashlib.sha256(content).hexdigest()[:16]
