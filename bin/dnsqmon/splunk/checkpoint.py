"""A folder of captures into those not read yet, with what is known of each kept across restarts."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from dnsqmon.core.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A file that was changed within so many seconds may still be written: it waits for the next round.
SETTLED_SECONDS = 10
#: How much of a file's beginning tells it from others of the same size.
_HEAD = 1024 * 1024
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS captures (size INTEGER, head TEXT, path TEXT NOT NULL,"
    " changed INTEGER NOT NULL, asked TEXT NOT NULL, records INTEGER NOT NULL,"
    " done INTEGER NOT NULL, PRIMARY KEY (size, head)) WITHOUT ROWID"
)

_ROW = "SELECT size, head, asked, records, done FROM captures "
#: Read to its end, and not written to since: its beginning need not be read again.
_UNCHANGED = _ROW + "WHERE path = ? AND size = ? AND changed = ? AND done LIMIT 1"
_SAME = _ROW + "WHERE size = ? AND head = ?"
_MOVED = "UPDATE captures SET path = ?, changed = ? WHERE size = ? AND head = ?"
#: What may have grown since.
_SHORTER = _ROW + "WHERE path = ? AND size < ? ORDER BY size DESC LIMIT 1"

log = logging.getLogger(__name__)


class Capture(NamedTuple):
    """A capture file that is to be read, from after its first `records`, which were written."""

    path: Path
    size: int
    head: str
    changed: int
    records: int


class _Row(NamedTuple):
    """What is remembered of a capture."""

    size: int
    head: str
    asked: str
    records: int
    done: bool


class Checkpoint:
    """Remembers captures by size and first bytes, so that one that is moved is not read again.

    `asked` is what decides which packets become records: records that were counted under another
    are no count of what to leave out.
    """

    def __init__(self, path: Path, asked: str) -> None:
        self._path = path
        self._asked = asked
        try:
            self._database = sqlite3.connect(path, timeout=5)
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigError(
                f"checkpoint {path}: {error}; remove the file to read every capture again"
            ) from error

    def unread(self, path: Path) -> Iterator[Capture]:
        """Yield the captures of a folder, or the one file, oldest first, as far as not yet read.

        Names that begin with a dot are left out. A path that is not there raises ConfigError.
        """
        try:
            files = sorted(
                (file.stat().st_mtime, file)
                for file in (path.iterdir() if path.is_dir() else [path])
                if not file.name.startswith(".") and (file.is_file() or file == path)
            )
        except OSError as error:
            raise ConfigError(f"--read {path}: {error.strerror}") from error
        for changed, file in files:
            if time.time() - changed < SETTLED_SECONDS:
                continue
            capture = self._look_up(file)
            if capture is not None:
                yield capture

    def keep(self, capture: Capture, *, records: int, done: bool) -> None:
        """Remember how far a capture was read; raises SinkError when that cannot be written."""
        row = (
            capture.size, capture.head, str(capture.path), capture.changed, self._asked, records,
            done,
        )  # fmt: skip
        self._write("INSERT OR REPLACE INTO captures VALUES (?,?,?,?,?,?,?)", *row)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _look_up(self, file: Path) -> Capture | None:
        """Return the capture, unless it was read to its end or cannot be opened."""
        try:
            with file.open("rb") as opened:
                status = os.fstat(opened.fileno())
                if self._find(_UNCHANGED, str(file), status.st_size, status.st_mtime_ns):
                    return None
                beginning = opened.read(_HEAD)
        except OSError as error:
            log.warning("%s: %s", file, error.strerror)
            return None
        head = _digest(beginning)
        capture = Capture(file, status.st_size, head, status.st_mtime_ns, 0)
        found = self._find(_SAME, status.st_size, head)
        if found is None:
            found = self._find(_SHORTER, str(file), status.st_size)
            if found is None or _digest(beginning[: found.size]) != found.head:
                return capture
        elif found.done:
            self._write(_MOVED, str(file), capture.changed, capture.size, head)
            return None
        return capture._replace(records=found.records if found.asked == self._asked else 0)

    def _find(self, statement: str, *values: object) -> _Row | None:
        """Return the first row found; raises SinkError when the database cannot be read."""
        try:
            row = self._database.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise SinkError(f"checkpoint {self._path}: {error}") from error
        return row and _Row(*row)

    def _write(self, statement: str, *values: object) -> None:
        try:
            with self._database:
                self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise SinkError(
                f"checkpoint {self._path}: {error}; the capture will be read again"
            ) from error


def _digest(beginning: bytes) -> str:
    return hashlib.sha256(beginning).hexdigest()
