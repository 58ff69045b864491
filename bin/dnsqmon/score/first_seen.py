"""Which second-level domains were seen before, when first and last, and how often."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from dnsqmon.core.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS seen (sld TEXT PRIMARY KEY, first_ns INTEGER NOT NULL,"
    " last_ns INTEGER NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID"
)
_NEWEST = (
    "SELECT sld, CAST(first_ns AS INTEGER), CAST(last_ns AS INTEGER), CAST(count AS INTEGER)"
    " FROM seen WHERE typeof(sld) = 'text' ORDER BY last_ns DESC LIMIT ?"
)
_SAVE_SECONDS = 60


class Site:
    """A second-level domain that was seen; times are nanoseconds since the epoch."""

    __slots__ = ("count", "first_ns", "is_watched", "last_ns", "saved_count", "tld", "verdicts")

    def __init__(self, sld: str, first_ns: int, last_ns: int, count: int) -> None:
        self.tld = sld[sld.rfind(".") + 1 :] or sld
        self.first_ns = first_ns
        self.last_ns = last_ns
        self.count = count
        #: The count that stands in the state file.
        self.saved_count = 0
        #: What the scorer looked up for this domain; None when it has to look again.
        self.verdicts: Any = None
        self.is_watched = False


class FirstSeen:
    """The domains seen, at most `limit` of them: the longest unseen are forgotten first."""

    def __init__(self, limit: int) -> None:
        self.sites: dict[str, Site] = {}
        self.evicted = 0
        self._limit = limit
        self._state: sqlite3.Connection | None = None
        self._path = ""
        self._saved_at = time.monotonic()
        self._forgotten: list[str] = []

    def add(self, sld: str, time_ns: int) -> Site:
        """Remember a domain that was not known; makes room first where there is none."""
        if len(self.sites) >= self._limit:
            self._evict()
        site = self.sites[sld] = Site(sld, time_ns, time_ns, 1)
        return site

    def _evict(self) -> None:
        """Forget the eighth of all domains that has been unseen for longest."""
        surplus = len(self.sites) - self._limit + 1 + self._limit // 8
        oldest = sorted(self.sites, key=lambda sld: self.sites[sld].last_ns)[:surplus]
        for sld in oldest:
            if self.sites.pop(sld).saved_count:  # only what stands in the file has to leave it
                self._forgotten.append(sld)
        self.evicted += len(oldest)

    def keep(self, path: str) -> None:
        """Load what an earlier run saw from `path`, and save there from now on."""
        try:
            self._state = sqlite3.connect(path, timeout=5, check_same_thread=False)
            self._state.execute(_SCHEMA)
            self._load(self._state.execute(_NEWEST, (self._limit,)))
            # A write that changes nothing: what cannot be written fails now, and not at the end.
            (version,) = self._state.execute("PRAGMA user_version").fetchone()
            self._state.execute(f"PRAGMA user_version = {version}")
        except sqlite3.Error as error:
            if self._state:
                self._state.close()
                self._state = None
            raise ConfigError(
                f"--state {path}: {error}; name a state file of dnsqmon's or a new one"
            ) from error
        self._path = path

    def _load(self, rows: Iterable[tuple[str, int, int, int]]) -> None:
        for sld, first_ns, last_ns, count in rows:
            site = self.sites[sld] = Site(sld, first_ns, last_ns, count)
            site.saved_count = count

    def save_if_due(self) -> None:
        """Save once a minute where there is a state file."""
        if self._state and time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Save in one transaction what changed since the last time; raises SinkError."""
        if not self._state:
            return
        self._saved_at = time.monotonic()
        rows = (
            (sld, _storable(site.first_ns), _storable(site.last_ns), site.count)
            for sld, site in self.sites.items()
            if site.count != site.saved_count
        )
        try:
            with self._state:
                self._state.executemany(
                    "DELETE FROM seen WHERE sld = ?", ((sld,) for sld in self._forgotten)
                )
                self._state.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise SinkError(
                f"--state {self._path}: {error}; the domains seen are kept in memory"
            ) from error
        self._forgotten.clear()
        for site in self.sites.values():
            site.saved_count = site.count

    def close(self) -> None:
        """Save and let go of the state file."""
        if self._state:
            try:
                self.save()
            finally:
                self._state.close()
                self._state = None


def _storable(time_ns: int) -> int:
    """Bring a time that a capture claims into the 64 bits that SQLite holds: to the year 2262."""
    return max(-(2**63), min(time_ns, 2**63 - 1))
