"""The command as a process of its own: started, fed, signalled, read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Callable

from needs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: Times are shown in UTC, and nothing of the caller's changes what the command does.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bin"), "TZ": "UTC", "COLUMNS": "80"}


def start(
    *arguments: object,
    cwd: Path,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start `python -m dnsqmon` with the arguments in the directory `cwd`."""
    command = [sys.executable, "-m", "dnsqmon", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, stdin=stdin, stdout=stdout, stderr=stderr
    )


def run(
    *arguments: object, cwd: Path, stdin: bytes = b"", stdout: int | IO[bytes] = subprocess.PIPE
) -> tuple[int, str, str]:
    """Run the command to its end; give exit code, standard output and standard error."""
    process = start(*arguments, cwd=cwd, stdin=subprocess.PIPE, stdout=stdout)
    out, error = process.communicate(stdin, timeout=60)
    return process.returncode, (out or b"").decode(), error.decode()


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds, half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
