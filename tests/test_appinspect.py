"""Splunk's own validators on the built app: AppInspect, ksconf and slim, without a complaint."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import staged
from needs import ROOT, missing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.once]


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which packages are built once a run."""
    return tmp_path_factory.getbasetemp()


def tool(name: str) -> str:
    """Find one of the validators in the environment that is theirs."""
    path = ROOT / ".venv-appinspect/bin" / name
    if not path.exists():
        missing(f"{name} (pip install -r tests/requirements-appinspect.txt in .venv-appinspect)")
    return str(path)


@pytest.mark.parametrize("with_scapy", [False, True], ids=["plain", "with-scapy"])
def test_appinspect(base: Path, tmp_path: Path, *, with_scapy: bool) -> None:
    """AppInspect, every tag, finds no failure, no error and no future failure."""
    report = tmp_path / "report.json"
    package = staged.package(base, with_scapy=with_scapy)
    subprocess.run(
        [
            tool("splunk-appinspect"), "inspect", str(package), "--mode", "precert",
            "--max-messages", "all", "--data-format", "json", "--output-file", str(report),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    result = json.loads(report.read_text("utf-8"))
    found = [
        (check["result"], check["name"], [message["message"] for message in check["messages"]])
        for app in result["reports"]
        for group in app["groups"]
        for check in group["checks"]
        if check["result"] in ("failure", "error", "future_failure")
    ]
    assert found == []
    assert result["summary"]["success"] > 100


def test_ksconf(base: Path) -> None:
    """`ksconf check` reads every .conf file."""
    confs = sorted(map(str, (staged.app(base) / "default").glob("*.conf")))
    result = subprocess.run(
        [tool("ksconf"), "check", *confs], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_slim(base: Path, tmp_path: Path) -> None:
    """`slim validate` accepts the app and its manifest, without an error and without a warning."""
    shutil.copytree(staged.app(base), tmp_path / "TA-dnsqmon")
    result = subprocess.run(
        [tool("slim"), "validate", str(tmp_path / "TA-dnsqmon")],
        check=False,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert [line for line in output.splitlines() if "ERROR" in line or "WARNING" in line] == []
