"""The built app, unpacked as Splunk would, and the interpreters that Splunk brings."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from needs import ROOT, missing

if TYPE_CHECKING:
    from pathlib import Path

#: The versions of Python in supported releases of Splunk.
SPLUNK_PYTHONS = ("3.9", "3.13")


def package(base: Path, *, with_scapy: bool = False) -> Path:
    """Build the package below `base`, once, and give its path."""
    output = base / ("package-with-scapy" if with_scapy else "package")
    if not output.exists():
        arguments = ["--with-scapy"] if with_scapy else []
        build(output, *arguments)
    (path,) = output.glob("*.spl")
    return path


def build(output: Path, *arguments: str) -> None:
    """Run the build as `make package` does, with a date that no commit meanwhile can change."""
    script = str(ROOT / "package/build.py")
    subprocess.run(
        [sys.executable, script, "--output", str(output), *arguments],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
    )


def app(base: Path, *, with_scapy: bool = False) -> Path:
    """Unpack the package below `base`, once, and give the app's folder."""
    packed = package(base, with_scapy=with_scapy)
    folder = packed.parent / "apps"
    if not folder.exists():
        folder.mkdir()
        subprocess.run(["tar", "-xzf", str(packed), "-C", str(folder)], check=True)
    return folder / "TA-dnsqmon"


def interpreter(version: str) -> str:
    """Find a Python of that version: one of the project's environments, or one of the machine."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    own = ROOT / f".venv-{version}/bin/python"
    if own.exists():
        return str(own)
    found = subprocess.run(
        [str(ROOT / "tests/find_python.sh"), version], check=True, capture_output=True, text=True
    )
    return found.stdout.strip() or missing(f"Python {version}")
