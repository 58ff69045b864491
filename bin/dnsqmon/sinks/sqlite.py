"""Appends records to the table `Queries` of a SQLite database, one transaction a batch."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.core.record import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dnsqmon.core.interfaces import RecordBatch

#: The original's table, word for word, so that its databases and ours are the same.
CREATE = """
CREATE TABLE IF NOT EXISTS Queries (
    Date numeric, Time numeric, Hostname text, SrcAddr text, SrcPort numeric, DstAddr text,
    DstPort numeric, RecordType text, Domain text, TLD text, SLD text, Levels numeric,
    Score numeric, Flags text
)"""
_INSERT = f"INSERT INTO Queries VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608 - question marks


class SqliteFile:
    """The sink of `-w sql`: a new database, or one of the original's, is appended to.

    The rollback journal, not WAL, is used: between two batches everything is in the one file
    `path`, which may be copied. A writer that finds the database locked waits `patience` seconds.
    Raises ConfigError where `path` cannot be written or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], patience: float = 5.0) -> None:
        self.name = "sqlite"
        self._path = os.fspath(path)
        self._patience = patience
        self._counts = {"written": 0, "lost_write_error": 0}
        try:
            # No isolation level: this class, not the module, begins and ends the transactions.
            self._connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
            try:
                self._begin()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigError(self._refusal(error), where=self._path) from None

    def write(self, batch: RecordBatch) -> None:
        """Add the whole batch, or nothing of it and raise SinkError; it may be tried again."""
        rows = batch.rows()
        if not rows:
            return
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            self._counts["lost_write_error"] += len(rows)
            raise SinkError(
                f"{self._path}: cannot write: {self._reason(error)}", lost=len(rows)
            ) from None
        self._counts["written"] += len(rows)

    def counts(self) -> Mapping[str, int]:
        """Say how many records were written, and how many were in batches that failed."""
        return self._counts

    def close(self) -> None:
        """Close the database; every batch is committed already."""
        self._connection.close()

    def _begin(self) -> None:
        """Make the table where there is none, and find out now whether rows can be added."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(CREATE)
        columns = tuple(
            column for _, column, *_ in connection.execute("PRAGMA table_info(Queries)")
        )
        if columns != COLUMNS:
            raise ConfigError(
                f"its table Queries has the columns {', '.join(columns)} instead of "
                f"{', '.join(COLUMNS)}; name another file",
                where=self._path,
            )
        # A write that changes nothing needs a journal like any other: it fails here, and not
        # after the first batch, where the directory takes no new file.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")

    def _reason(self, error: sqlite3.Error) -> str:
        """Say what is wrong, in SQLite's words and for a lock in ours too."""
        if "locked" in str(error):
            return f"{error}: another program kept it so for {self._patience:g} seconds"
        return str(error)

    def _refusal(self, error: sqlite3.Error) -> str:
        """Say why the database cannot be used and what to do."""
        if "not a database" in str(error):
            return "this file is not a SQLite database; name another file"
        if "locked" in str(error):
            return f"{self._reason(error)}; close that program or name another file"
        return (
            f"cannot write this database: {error}; name a file in a directory that exists, "
            "is writable and has room"
        )
