"""Appends one line a record to a file, so that the file holds whole lines at every instant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dnsqmon.core.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dnsqmon.core.interfaces import RecordBatch

_FIX = "name a file in a directory that exists, is writable and has room"


class LineFile:
    """A sink that appends each batch to the file `path`, in the format `form` of `render.FORMATS`.

    `header` (comma-separated) is written first where the file is new or empty. Each batch is one
    write, and is in the operating system's hands when `write` returns. Where an earlier run left
    the last line cut off, that line is ended first, so that no record is glued to it. Raises
    ConfigError where `path` cannot be appended to, or holds something with other columns.
    """

    def __init__(self, path: str | os.PathLike[str], form: str, header: str = "") -> None:
        self.name = form
        self._path = Path(path)
        self._form = form
        self._counts = {"written": 0, "lost_write_error": 0}
        #: What the next write begins with: the line end that a cut-off last line lacks.
        self._glue = b""
        try:
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(
                f"cannot write this file: {error.strerror}; {_FIX}", where=str(path)
            ) from None
        try:
            self._begin(header)
        except BaseException:
            self._file.close()
            raise

    def write(self, batch: RecordBatch) -> None:
        """Append the batch; keep what fits, in whole lines, and raise SinkError for the rest."""
        lines = batch.lines(self._form)
        if not lines:
            return
        lost = 0
        try:
            self._append(lines)
        except SinkError as error:
            lost = error.lost
            raise
        finally:
            self._counts["written"] += len(lines) - lost
            self._counts["lost_write_error"] += lost

    def counts(self) -> Mapping[str, int]:
        """Say how many records were written, and how many a failed write lost."""
        return self._counts

    def close(self) -> None:
        """Close the file; `write` has handed everything over already."""
        self._file.close()

    def _begin(self, header: str) -> None:
        """Write the header to an empty file; see how the last line of any other one ends."""
        where = str(self._path)
        if os.fstat(self._file.fileno()).st_size == 0:
            if header:
                try:
                    self._append([header])
                except SinkError as error:
                    raise ConfigError(f"{error}; {_FIX}") from None
            return
        try:
            with self._path.open("rb") as existing:
                first_line = existing.readline(4096)
                existing.seek(-1, os.SEEK_END)
                last_byte = existing.read(1)
        except OSError as error:
            raise ConfigError(
                f"cannot read what this file holds already: {error.strerror}; {_FIX}", where=where
            ) from None
        if header and first_line.count(b",") != header.count(","):
            raise ConfigError(
                f"holds something else than the columns {header}; name another file", where=where
            )
        if not header and first_line[:1] != b"{":
            raise ConfigError(
                "holds something else than JSON lines; name another file", where=where
            )
        if last_byte != b"\n":
            self._glue = b"\n"

    def _append(self, lines: Sequence[str]) -> None:
        """Append all lines, or as many whole ones as fit and raise SinkError for the others."""
        data = self._glue + ("\n".join(lines) + "\n").encode("ascii")
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            whole = data.rfind(b"\n", 0, done) + 1
            taken = max(data.count(b"\n", 0, whole) - len(self._glue), 0)
            if whole:
                self._glue = b""
            self._cut_off(done - whole)
            raise SinkError(
                f"{self._path}: cannot write: {error.strerror}", lost=len(lines) - taken
            ) from None
        self._glue = b""

    def _cut_off(self, count: int) -> None:
        """Take the last `count` bytes, the begin of a line, out of the file again."""
        if count == 0:
            return
        descriptor = self._file.fileno()
        try:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - count)
        except OSError:
            # An append-only file (chattr +a) keeps the piece: end it before the next line.
            self._glue = b"\n"
