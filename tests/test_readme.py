"""The README is true: its commands run as written, its outputs and tables are the program's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.counters import REASONS
from needs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
#: Run by hand or by another test: `make test` is what runs this, `make demo` has a test below.
ELSEWHERE = ("make test", "make demo")
COMMANDS = [
    line.split("  #")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if not line.startswith(ELSEWHERE)
]
REPORTS = re.findall(r"`(dnsqmon report [^`]+)`", README)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkout to run the commands in, and the files that some of them name."""
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with zipfile.ZipFile(folder / "tranco.csv.zip", "w") as archive:
        archive.writestr("top-1m.csv", "1,google.com\n2,www.youtube.com\n")
    (folder / "hosts.txt").write_text("0.0.0.0 ads.example\n", "ascii")
    return folder


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line with `dnsqmon` on the PATH, as this Python's."""
    scripts = folder / ".scripts"
    scripts.mkdir(exist_ok=True)
    script = scripts / "dnsqmon"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dnsqmon "$@"\n', "ascii")
    script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "bin"),
    }
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, folder: Path) -> None:
    """Every command in a shell block runs as written; only `head` may end one early."""
    done = _run(command, folder)

    assert done.returncode == 0 or ("| head" in command and not done.stderr), done.stderr
    assert "ERROR" not in done.stderr


@pytest.mark.parametrize("command", REPORTS)
def test_reports(command: str, folder: Path) -> None:
    """Every question of the table is answered from a database of the demo capture."""
    if not (folder / "queries.db").exists():
        assert _run("dnsqmon -r tests/data/demo.pcap -w sql", folder).returncode == 0

    done = _run(command, folder)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.once
def test_demo(folder: Path) -> None:
    """`make demo` works on a clean checkout, and prints what the README shows."""
    done = _run("make --silent demo", folder)

    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    shown = [
        line
        for language, text in BLOCKS
        if not language
        for line in text.splitlines()
        if line.strip() and line != "..."
    ]
    assert len(shown) > 20
    for line in shown:
        assert line in printed.splitlines()


def test_reasons_are_named() -> None:
    """The README names every reason under which a packet is counted."""
    for reason in REASONS:
        assert f"`{reason}`" in README
