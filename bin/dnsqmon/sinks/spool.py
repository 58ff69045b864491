"""A bounded queue of lines before a destination: in a file that outlives us, or in memory."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.pace import Complaints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

#: The bounds of a chunk: the unit that is taken, settled and forced out.
CHUNK_LINES = 500
CHUNK_BYTES = 64 * 1024
#: What may wait in memory while the disk under the file is full.
OVERFLOW_BYTES = 16 * 1024 * 1024


class Chunk(NamedTuple):
    """`records` lines joined by newlines, under the number that orders them."""

    number: int
    records: int
    payload: bytes


class Spool:
    """Lines go in at one end; senders take chunks at the other, and settle them or give them back.

    With a path, the lines are in the file (write-ahead log, one transaction an append) when
    `append` returns: they survive the end of the process, kill -9 included; a power cut can cost
    the last moments. When more than `limit` bytes wait, the oldest are forced out and counted.
    While the disk is full, lines wait in memory (`overflow` bytes) before any is forced out.

    Every method may be called from any thread. The constructor may raise ConfigError.
    """

    def __init__(self, path: str | None, limit: int, *, overflow: int = OVERFLOW_BYTES) -> None:
        self.durable = path is not None
        self._limit = limit
        self._overflow = overflow
        self._changed = threading.Condition()
        self._complaints = Complaints(log)
        self._open = True
        self._database = _open_database(path)
        row = (
            "coalesce(max(number), 0), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0)"
        )
        self._last, resumed, self._bytes = self._database.execute(
            f"SELECT {row} FROM chunks"  # noqa: S608 - the line above
        ).fetchone()
        self._counts = Counter(waiting=resumed, resumed=resumed)
        self._overflow_bytes = 0
        self._free_lines, self._free_bytes = resumed, self._bytes
        self._passed = 0  # every chunk up to this number was taken before
        self._returned: set[int] = set()  # of those, the ones that were given back
        self._undeleted: list[tuple[int]] = []  # settled, but the full disk did not let go of them
        self._stirred = 0.0  # when the first of the free lines came
        self._hurried = False

    def append(self, lines: Sequence[str], patience: float = 0.0) -> None:
        """Keep the lines; they are safe (see the class) when this returns. Never raises.

        If the spool is full, wait up to `patience` seconds for room before forcing out.
        """
        with self._changed:
            if patience:
                size = sum(map(len, lines)) + len(lines)
                self._changed.wait_for(lambda: self._bytes + size <= self._limit, patience)
            if not self._open:
                self._counts["lost_unsent"] += len(lines)
                return
            if not self._free_lines:
                self._stirred = time.monotonic()
            chunks = list(self._chunks(lines))
            size = sum(len(chunk.payload) for chunk in chunks)
            self._counts["waiting"] += len(lines)
            self._free_lines += len(lines)
            self._free_bytes += size
            self._bytes += size
            self._store(chunks, size)
            while self._bytes > self._limit and self._force_out("spool_full"):
                pass
            self._changed.notify_all()

    def take(self, most_lines: int, most_bytes: int, linger: float, wait: float) -> list[Chunk]:
        """Take the oldest chunks, within both bounds, but at least one if any waits.

        Lets `linger` seconds pass for the bounds to fill, and waits at most `wait` seconds for
        anything to take; then the list is empty.
        """
        deadline = time.monotonic() + wait
        with self._changed:
            while self._open:
                now = time.monotonic()
                ripe = self._stirred + linger if self._free_lines else deadline
                full = self._free_lines >= most_lines or self._free_bytes >= most_bytes
                if self._free_lines and (full or self._hurried or now >= ripe):
                    return self._take(most_lines, most_bytes)
                if self._hurried or now >= deadline:
                    break
                self._changed.wait(min(deadline, ripe) - now)
        return []

    def settle(self, chunks: Sequence[Chunk], lost: Mapping[str, int]) -> None:
        """Forget chunks that were sent: all of their lines but the `lost` ones were written."""
        with self._changed:
            if not self._open:
                return
            total = sum(chunk.records for chunk in chunks)
            self._counts["waiting"] -= total
            self._counts["written"] += total - sum(lost.values())
            for reason, count in lost.items():
                self._counts[f"lost_{reason}"] += count
            self._bytes -= sum(len(chunk.payload) for chunk in chunks)
            self._delete(chunks)
            self._changed.notify_all()

    def give_back(self, chunks: Sequence[Chunk]) -> None:
        """Return chunks that were taken but not settled; they are the first to be taken again."""
        with self._changed:
            self._returned.update(chunk.number for chunk in chunks)
            self._free_lines += sum(chunk.records for chunk in chunks)
            self._free_bytes += sum(len(chunk.payload) for chunk in chunks)
            self._stirred = 0.0
            self._changed.notify_all()

    def wait_until_taken(self, patience: float) -> None:
        """Wait until senders hold all that waits, or none took anything for `patience` seconds."""
        with self._changed:
            before = -1
            while self._free_lines and self._free_lines != before:
                before = self._free_lines
                self._changed.wait_for(lambda: not self._free_lines, patience)

    def hurry(self) -> None:
        """Let no `take` linger or wait from now on: the end is near."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def counts(self) -> dict[str, int]:
        """Return `written`, `waiting`, each `lost_<reason>`, and `resumed`: waiting at the start.

        Lines appended + resumed = written + waiting + lost.
        """
        with self._changed:
            return {"written": 0, "waiting": 0, "resumed": 0, **self._counts}

    def close(self) -> int:
        """Close the file, or forget the memory; return how many lines are lost by that."""
        with self._changed:
            if not self._open:
                return 0
            self._open = False
            self._store([], 0)
            table = "overflow" if self.durable else "chunks"
            (lost,) = self._database.execute(
                f"SELECT coalesce(sum(records), 0) FROM {table}"  # noqa: S608 - one of two words
            ).fetchone()
            self._counts["waiting"] -= lost
            if lost:
                self._counts["lost_disk_full" if self.durable else "lost_unsent"] += lost
            self._database.close()
            self._changed.notify_all()
            return int(lost)

    def _chunks(self, lines: Sequence[str]) -> Iterator[Chunk]:
        start = size = 0
        for end, line in enumerate(lines):
            if end > start and (end - start >= CHUNK_LINES or size + len(line) > CHUNK_BYTES):
                yield self._chunk(lines[start:end])
                start, size = end, 0
            size += len(line) + 1
        if start < len(lines):
            yield self._chunk(lines[start:])

    def _chunk(self, lines: Sequence[str]) -> Chunk:
        self._last += 1
        return Chunk(self._last, len(lines), "\n".join(lines).encode())

    def _store(self, chunks: Sequence[Chunk], size: int) -> None:
        """Put new chunks in the file, or in memory, after those that wait there already."""
        if self._undeleted:
            self._delete(())
        while self._overflow_bytes and self._move():
            pass
        if self._overflow_bytes or not self._write("INSERT INTO chunks VALUES (?, ?, ?)", chunks):
            self._database.executemany("INSERT INTO overflow VALUES (?, ?, ?)", chunks)
            self._overflow_bytes += size
        while self._overflow_bytes > self._overflow and not self._move():
            # Room is made in the file, unless it cannot even be told to forget.
            floor = self._oldest_in_memory() if self._undeleted else 0
            if not self._force_out("disk_full", floor):
                break

    def _move(self) -> bool:
        """Move the oldest chunk in memory to the file, if its disk takes it."""
        number = (self._oldest_in_memory(),)
        if not self._write("INSERT INTO chunks SELECT * FROM overflow WHERE number = ?", [number]):
            return False
        size = "SELECT length(payload) FROM overflow WHERE number = ?"
        self._overflow_bytes -= self._database.execute(size, number).fetchone()[0]
        self._database.execute("DELETE FROM overflow WHERE number = ?", number)
        return True

    def _oldest_in_memory(self) -> int:
        row = self._database.execute("SELECT min(number) FROM overflow").fetchone()
        return int(row[0])

    def _take(self, most_lines: int, most_bytes: int) -> list[Chunk]:
        taken: list[Chunk] = []
        lines = size = 0
        for chunk in self._free():
            lines, size = lines + chunk.records, size + len(chunk.payload)
            if taken and (lines > most_lines or size > most_bytes):
                break
            taken.append(chunk)
        for chunk in taken:
            self._hold(chunk)
        self._changed.notify_all()
        return taken

    def _free(self, floor: int = 0) -> Iterator[Chunk]:
        """Yield the chunks from `floor` on that no sender holds, oldest first."""
        for number in sorted(self._returned):
            chunk = self._row("= ?", number)
            if chunk is not None and number >= floor:
                yield chunk
        chunk = self._row("> ?", max(self._passed, floor - 1))
        while chunk is not None:
            yield chunk
            chunk = self._row("> ?", chunk.number)

    def _row(self, condition: str, number: int) -> Chunk | None:
        for table in ("chunks", "overflow"):  # what overflowed is the newest
            row = self._database.execute(
                f"SELECT * FROM {table} WHERE number {condition} ORDER BY number LIMIT 1",  # noqa: S608
                (number,),
            ).fetchone()
            if row:
                return Chunk(*row)
        return None

    def _hold(self, chunk: Chunk) -> None:
        self._passed = max(self._passed, chunk.number)
        self._count_out(chunk)

    def _count_out(self, chunk: Chunk) -> None:
        self._returned.discard(chunk.number)
        self._free_lines -= chunk.records
        self._free_bytes -= len(chunk.payload)

    def _force_out(self, reason: str, floor: int = 0) -> bool:
        """Lose the oldest chunk from `floor` on that no sender holds; say whether there was one."""
        for chunk in self._free(floor):
            if floor:  # in memory, which always forgets: the older ones in the file are not passed
                self._count_out(chunk)
            else:
                self._hold(chunk)
            self._bytes -= len(chunk.payload)
            self._counts["waiting"] -= chunk.records
            self._counts[f"lost_{reason}"] += chunk.records
            self._complaints.say(
                f"{chunk.records} records forced out of the full spool, oldest first"
            )
            self._delete([chunk])
            return True
        return False

    def _delete(self, chunks: Sequence[Chunk]) -> None:
        """Forget chunks; those that the full disk does not let go of are tried again later."""
        numbers = [(chunk.number,) for chunk in chunks]
        if self._overflow_bytes:
            for chunk in chunks:
                gone = "DELETE FROM overflow WHERE number = ?"
                if self._database.execute(gone, (chunk.number,)).rowcount:
                    self._overflow_bytes -= len(chunk.payload)
        self._undeleted.extend(numbers)
        if self._write("DELETE FROM chunks WHERE number = ?", self._undeleted):
            self._undeleted.clear()

    def _write(self, statement: str, rows: Sequence[Sequence[object]]) -> bool:
        """Run the statement for every row, in one transaction; say whether the file took it."""
        try:
            self._database.execute("BEGIN")
            self._database.executemany(statement, rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            self._complaints.say(f"the spool cannot be written: {error}")
            return False
        return True


def _open_database(path: str | None) -> sqlite3.Connection:
    """Open the file so that no other process can, or a database in memory."""
    try:
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False, timeout=0
        )
        try:
            for statement in _SCHEMA:
                database.execute(statement)
        except sqlite3.Error:
            database.close()
            raise
    except (OSError, sqlite3.Error) as error:
        if "locked" in str(error):
            text = "another dnsqmon uses this spool; give each its own --spool-dir"
        else:
            text = f"the spool cannot be opened ({error}); mend or move it, or change --spool-dir"
        raise ConfigError(text, where=path) from error
    return database


_SCHEMA = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA temp_store = MEMORY",
    "CREATE TABLE IF NOT EXISTS chunks (number INTEGER PRIMARY KEY, records INTEGER, payload BLOB)",
    "CREATE TEMP TABLE overflow (number INTEGER PRIMARY KEY, records INTEGER, payload BLOB)",
)
