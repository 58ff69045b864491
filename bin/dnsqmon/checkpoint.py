"""A folder of captures into those not read yet, with what is known of each kept across restarts."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from dnsqmon.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A file that was changed within so many seconds may still be written: it waits for the next round.
SETTLED_SECONDS = 10
#: How much of a file's beginning tells it from others of the same size.
_HEAD = 1024 * 1024
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS captures (size INTEGER, head TEXT, path TEXT NOT NULL,"
    " records INTEGER NOT NULL, done INTEGER NOT NULL, PRIMARY KEY (size, head)) WITHOUT ROWID"
)

log = logging.getLogger("dnsqmon")


class Capture(NamedTuple):
    """A capture file that is to be read; `records` of it were written before it was interrupted."""

    path: Path
    size: int
    head: str
    records: int


class Checkpoint:
    """Remembers captures by size and first bytes, so that one that is moved is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._database = sqlite3.connect(path, timeout=5)
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            message = f"checkpoint {path}: {error}; remove the file to read every capture again"
            raise ConfigError(message) from error

    def unread(self, path: Path) -> Iterator[Capture]:
        """Give the captures of a folder, or the one file, oldest first, as far as not yet read.

        Names that begin with a dot are left out. A path that is not there raises ConfigError.
        """
        try:
            files = sorted(
                (file.stat().st_mtime, file)
                for file in (path.iterdir() if path.is_dir() else [path])
                if not file.name.startswith(".") and (file.is_file() or file == path)
            )
        except OSError as error:
            message = f"--read {path}: {error.strerror}"
            raise ConfigError(message) from error
        for changed, file in files:
            if time.time() - changed < SETTLED_SECONDS:
                continue
            capture = self._look_up(file)
            if capture is not None:
                yield capture

    def keep(self, capture: Capture, *, records: int, done: bool) -> None:
        """Remember how far a capture was read; raises SinkError when that cannot be written."""
        row = (capture.size, capture.head, str(capture.path), records, done)
        try:
            with self._database:
                self._database.execute("INSERT OR REPLACE INTO captures VALUES (?,?,?,?,?)", row)
        except sqlite3.Error as error:
            message = f"checkpoint {self._path}: {error}; the capture will be read again"
            raise SinkError(message) from error

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _look_up(self, file: Path) -> Capture | None:
        """Give the capture, unless it was read to its end or cannot be opened."""
        try:
            with file.open("rb") as opened:
                head = hashlib.sha256(opened.read(_HEAD)).hexdigest()
                size = file.stat().st_size
        except OSError as error:
            log.warning("%s: %s", file, error.strerror)
            return None
        found = self._database.execute(
            "SELECT records, done FROM captures WHERE size = ? AND head = ?", (size, head)
        ).fetchone()
        records, done = found or (0, 0)
        return None if done else Capture(file, size, head, records)
