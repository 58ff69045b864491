"""The account of a running pipeline, for whoever asks: a person, a file, a metrics server."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnsqmon.account.account import account, as_text
from dnsqmon.core.errors import ConfigError

if TYPE_CHECKING:
    from dnsqmon.pipeline import Pipeline

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0


class Reports:
    """Takes the account between two batches, when every packet is accounted for.

    With `file` it is appended there every `seconds`, and at the end, as one line of JSON. The file
    is opened for each line, so that it may be rotated; ConfigError if it cannot be opened now.
    """

    def __init__(self, pipeline: Pipeline, seconds: float, file: str | None) -> None:
        self._pipeline = pipeline
        self._seconds = seconds
        self._file = Path(file) if file else None
        self._asked = False
        self._refresh_at = 0.0
        self._append_at = time.monotonic() + seconds
        #: The account of at most a second ago, and the `time` it was taken (epoch seconds).
        self.latest = self._account()
        if self._file:
            try:
                with self._file.open("a", encoding="utf-8"):
                    pass
            except OSError as error:
                raise ConfigError(
                    f"--stats-file {file}: cannot write: {error.strerror}; name another file"
                ) from error

    def keep_up(self) -> None:
        """Do what is due between two batches."""
        now = time.monotonic()
        if now >= self._refresh_at or self._asked:
            self._refresh_at = now + _REFRESH_SECONDS
            self.latest = self._account()
        if self._asked:
            self._asked = False
            sys.stderr.write("\n".join(as_text(self.latest)) + "\n")
        if now >= self._append_at:
            self._append_at = now + self._seconds
            self._append()

    def show(self) -> None:
        """Write the account to standard error after the next batch; for a signal handler."""
        self._asked = True

    def finish(self) -> None:
        """Take the last account, after everything is closed."""
        self.latest = self._account()
        self._append()

    def _account(self) -> dict[str, Any]:
        return {"time": round(time.time(), 3), **account(self._pipeline)}

    def _append(self) -> None:
        if not self._file:
            return
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.latest) + "\n")
        except OSError as error:
            log.warning("--stats-file %s: cannot write: %s", self._file, error.strerror)
