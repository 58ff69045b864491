"""Fixtures that any test may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from needs import SHARED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="corpus", scope="session")
def _corpus() -> Path:
    """Return the folder of real captures, which lies beside the checkout where the team works."""
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.skip("needs the capture corpus beside the checkout")
    return folder
