"""Failures that repeat, said once in a while instead of each time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


class Complaints:
    """A log of failures that repeat: each at once if long unsaid, else counted until then."""

    def __init__(self, log: logging.Logger, seconds: float = 30.0) -> None:
        self._log = log
        self._seconds = seconds
        self._last = -seconds
        self._unsaid = 0

    def say(self, text: str) -> None:
        """Log `text` as a warning, or count it when the last one is not long ago."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} failures before this one)" if self._unsaid else ""
        self._last, self._unsaid = now, 0
        self._log.warning("%s%s", text, more)
