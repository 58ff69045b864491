"""The built app, unpacked as Splunk would, and the interpreters that Splunk brings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from needs import ROOT, missing

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
    """Find a Python of that version: one of the project's environments, or one on the PATH."""
    candidates = [str(ROOT / f".venv-{version}/bin/python"), shutil.which(f"python{version}")]
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        candidates.insert(0, sys.executable)
    found = [path for path in candidates if path and Path(path).exists()]
    return found[0] if found else missing(f"Python {version}")
