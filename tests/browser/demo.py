"""Events of the demo capture, as the app's own modular input sends them to Splunk."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from browser.events import Index
from browser.spl import Window, relative_time
from needs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CAPTURE = ROOT / "tests" / "data" / "demo.pcap"
#: A moment after the last packet of the demo capture: 2026-03-02 17:05 UTC, and the day before it.
NOW = 1_772_471_100.0
DAY = Window(relative_time("-24h@h", NOW), NOW, NOW)
PERIOD = 3600  # seconds between two statistics events
SENSOR = "office"
#: A second sensor, made up so that there is one whose kernel dropped packets.
LOSING = "branch"
STALE = 45 * 86400  # age of its common list

_INPUT = """<input>
<server_host>office</server_host><server_uri>https://127.0.0.1:8089</server_uri>
<session_key>none</session_key><checkpoint_dir>{folder}</checkpoint_dir>
<configuration><stanza name="dns_query_monitor://eth0" app="TA-dnsqmon">
<param name="read">{capture}</param><param name="node_name">{sensor}</param>
<param name="types">all</param><param name="utc">true</param>
<param name="watchlist">dnsqmon_watchlist.csv</param>
<param name="commonlist">dnsqmon_commonlist.csv</param>
<param name="serverlist">dnsqmon_serverlist.csv</param>
</stanza></configuration></input>"""


def index_of(folder: Path) -> Index:
    """Index the records of the demo capture and the statistics, and keep the domains first seen."""
    index = Index(ROOT)
    index.add(records(folder), "dnsqmon")
    index.add(statistics(folder), "dnsqmon:stats")
    seen = {event["sld"]: event["_time"] for event in index.events if "sld" in event}
    index.collections["dnsqmon_first_seen"] = [
        {"sld": sld, "first_seen": first} for sld, first in seen.items()
    ]
    return index


def records(folder: Path) -> list[str]:
    """Return the events that the modular input makes of the demo capture, all record types."""
    return _sent(CAPTURE, folder / "day")["dnsqmon"]


def statistics(folder: Path) -> list[str]:
    """Return the input's statistics of each hour of the demo capture, as of a run that lasted.

    The counts and the lists are the input's own; `time`, `uptime` and `interval`, which tell how
    fast a file was read, are those of the hour.
    """
    events = []
    for number, (end, part) in enumerate(_periods(folder), 1):
        (line,) = _sent(part, folder / f"{end}")["dnsqmon:stats"]
        known = json.loads(line)
        known.update(time=end + 0.5, uptime=number * PERIOD, interval=PERIOD)
        drops = number % 3
        losing = {
            "sensor": LOSING,
            "captured": known["captured"] + drops,
            "loss_kernel_dropped": drops,
            "commonlist_age": STALE,
            "watchlist_age": 86400,
        }
        events += [json.dumps(known), json.dumps({**known, **losing})]
    return events


def _sent(capture: Path, folder: Path) -> dict[str, list[str]]:
    """Run the modular input over a capture file and give the lines it sends, by sourcetype."""
    folder.mkdir()
    asked = _INPUT.format(folder=folder, capture=capture, sensor=SENSOR)
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "dns_query_monitor.py"],
        input=asked, capture_output=True, text=True, check=False,
        env={"SPLUNK_HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines: dict[str, list[str]] = {"dnsqmon": [], "dnsqmon:stats": []}
    for event in ET.fromstring(done.stdout).iter("event"):
        text = event.findtext("data") or ""
        lines[event.findtext("sourcetype") or "dnsqmon"] += text.splitlines()
    return lines


def _periods(folder: Path) -> Iterator[tuple[int, Path]]:
    """Cut the demo capture: each period's end in epoch seconds, and a file of its frames."""
    data = CAPTURE.read_bytes()
    periods: dict[int, bytes] = {}
    at = 24
    while at < len(data):
        seconds, _, size = struct.unpack_from("<III", data, at)
        end = seconds // PERIOD * PERIOD + PERIOD
        periods[end] = periods.get(end, data[:24]) + data[at : at + 16 + size]
        at += 16 + size
    for end, frames in sorted(periods.items()):
        part = folder / f"{end}.pcap"
        part.write_bytes(frames)
        os.utime(part, (end, end))  # as long ago as it was captured: nobody still writes it
        yield end, part
