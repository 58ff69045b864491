"""Tools and rights that a test needs: a named skip where they are missing, a failure in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
IN_CI = os.environ.get("CI") == "true"


def missing(what: str) -> NoReturn:
    """Skip the test because `what` is missing; in CI, where everything is installed, fail it."""
    if IN_CI:
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(f"needs {what}")


def need(*programs: str) -> None:
    """Ask for programs on the PATH."""
    for program in programs:
        if shutil.which(program) is None:
            missing(f"the program {program}")


def need_root() -> None:
    """Ask for root, to make network namespaces or to drop rights."""
    if os.geteuid() != 0:
        missing("root")
