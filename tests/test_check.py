"""`dnsqmon check`: what would stand in the way of a run, each with the way to mend it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from needs import ROOT, need_root

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bin"), "DNSQMON_HEC_TOKEN": "0123456789"}
WATCHLIST = str(ROOT / "lookups" / "dnsqmon_watchlist.csv")


def _check(*arguments: str) -> tuple[int, list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "dnsqmon", "check", *arguments],
        env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_everything_that_a_run_needs_is_named(tmp_path: Path) -> None:
    """A line for each interface, list, file and destination, and exit code 0 when all is well."""
    need_root()
    csv = tmp_path / "queries.csv"
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        port = receiver.getsockname()[1]
        code, found, problems = _check(
            "-i", "lo", "--user", "root", "-w", "csv", "-f", str(csv), "--watchlist", WATCHLIST,
            "--metrics", "127.0.0.1:9153", "--syslog", f"tcp://127.0.0.1:{port}",
            "--client", "127.0.0.1",
        )  # fmt: skip
    assert problems == []
    assert code == 0
    assert [line.split(": ")[0] for line in found] == [
        "[+] interface lo",
        "[+] profile classic",
        f"[+] watch list {WATCHLIST}",
        f"[+] file {csv}",
        "[+] metrics",
        "[+] destination udp://127.0.0.1:54321",
        f"[+] destination tcp://127.0.0.1:{port}",
    ]
    assert not csv.exists()


PROBLEMS = {
    "interface": (("-i", "eth77"), "there is no such interface"),
    "filter": (("-i", "lo", "--filter", "udp port"), "syntax error"),
    "list": (("-i", "lo", "--commonlist", "/nowhere/list"), "/nowhere/list"),
    "profile": (("-i", "lo", "--profile", "/nowhere/profile"), "/nowhere/profile"),
    "capture": (("-r", "/nowhere/capture"), "cannot be opened"),
    "directory": (("-i", "lo", "--stats-file", "/nowhere/stats"), "no directory /nowhere"),
    "syslog": (("-i", "lo", "--syslog", "tcp://127.0.0.1:1"), "is it running"),
    "hec": (("-i", "lo", "--hec", "http://127.0.0.1:1"), "is it running"),
    "metrics": (("-i", "lo", "--metrics", "192.0.2.7:9153"), "cannot listen"),
    "server": (("--server", "192.0.2.7"), "192.0.2.7"),
    "user": (("-i", "lo", "--user", "nosuchuser"), "there is no such user"),
    "setting": (("-i", "lo", "--ring-size", "x"), "--ring-size x: give a whole number"),
}


@pytest.mark.parametrize(("arguments", "sentence"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_each_problem_is_a_line_that_says_how_to_mend_it(
    arguments: tuple[str, ...], sentence: str
) -> None:
    """What would stop a run, or stop records from arriving, ends with exit code 2."""
    need_root()
    user = () if "--user" in arguments else ("--user", "root")
    code, _, problems = _check(*arguments, *user, "-d")
    assert code == 2
    assert len(problems) == 1
    assert sentence in problems[0]


def test_one_problem_does_not_hide_the_next() -> None:
    """All that can be tried is tried."""
    need_root()
    code, found, problems = _check(
        "-i", "eth77", "--user", "root", "-d", "--watchlist", "/nowhere/1",
        "--commonlist", WATCHLIST, "--serverlist", "/nowhere/2",
    )  # fmt: skip
    assert code == 2
    assert len(problems) == 3
    assert len(found) == 2
