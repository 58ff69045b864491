"""Queries to records: flags and score from the lists, the profile and what was seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsqmon.core.names import octets
from dnsqmon.score.profile import REASON_FLAGS

if TYPE_CHECKING:
    from dnsqmon.core.record import Query, Record
    from dnsqmon.score.first_seen import FirstSeen, Site
    from dnsqmon.score.lists import Lists
    from dnsqmon.score.profile import Profile

#: How many source addresses are remembered as known DNS servers or not.
MAX_SOURCES = 65536

#: What a query adds to the index into its site's verdicts.
_WATCH, _FIRST, _LONG, _SHORT, _SERVER = 1, 2, 4, 8, 16


#: Score, flags and points by reason that a combination comes to. A plain tuple: unpacking a named
#: one costs more than the rest of a query's scoring.
Verdict = tuple[int, str, dict[str, int]]


class Scorer:
    """Turns queries into records.

    The flags that hang on the SLD alone (u, t) are looked up once a site; the others make the
    index into the site's 32 verdicts, which all sites with the same u and TLD points share.
    """

    def __init__(
        self, hostname: str, profile: Profile, lists: Lists, first_seen: FirstSeen
    ) -> None:
        self._hostname = hostname
        self._profile = profile
        self._lists = lists
        self._first_seen = first_seen
        self._tables: dict[tuple[bool, int], list[Verdict]] = {}
        self._servers: dict[str, int] = {}
        self._watched = self._watched_sites()

    def score(self, queries: list[Query]) -> list[Record]:
        """Return the record of each query, in order."""
        hostname, sld_of = self._hostname, self._profile.sld_of
        long_from, short_to = self._profile.long_from, self._profile.short_to
        known_site, known_server = self._first_seen.sites.get, self._servers.get
        watch = self._lists.watch.names if self._lists.watch else frozenset()
        records: list[Record] = []
        append = records.append
        for (
            time_ns, src, src_port, dst, dst_port, record_type, domain, levels, transport,
            transaction_id,
        ) in queries:  # fmt: skip
            sld = sld_of(domain)
            site = known_site(sld)
            if site is None:
                site = self._first_seen.add(sld, time_ns)
                index = _FIRST
            else:
                index = 0
                site.count += 1
                if time_ns > site.last_ns:
                    site.last_ns = time_ns
                elif time_ns < site.first_ns:
                    site.first_ns = time_ns
            verdicts = site.verdicts or self._look_up(sld, site)
            if site.is_watched and domain in watch:
                index += _WATCH
            length = len(domain)
            if length <= short_to or length >= long_from or "\\" in domain:
                length = octets(domain)
                if length >= long_from:
                    index += _LONG
                elif length <= short_to:
                    index += _SHORT
            server = known_server(src)
            index += self._server(src) if server is None else server
            score, flags, reasons = verdicts[index]
            append((
                time_ns, hostname, src, src_port, dst, dst_port, record_type, domain, site.tld, sld,
                levels, score, flags, transport, transaction_id, reasons,
            ))  # fmt: skip
        return records

    def lists_changed(self) -> None:
        """Forget what was looked up in the lists."""
        self._servers.clear()
        self._watched = self._watched_sites()
        for site in self._first_seen.sites.values():
            site.verdicts = None

    def _watched_sites(self) -> frozenset[str]:
        """Return the SLDs of the names on the watch list: below no other is a name looked up."""
        watch = self._lists.watch
        return frozenset(map(self._profile.sld_of, watch.names)) if watch else frozenset()

    def _server(self, src: str) -> int:
        """Look a source address up in the server list."""
        if len(self._servers) >= MAX_SOURCES:
            self._servers.clear()
        listed = self._lists.server is not None and self._lists.server.contains(src)
        self._servers[src] = _SERVER if listed else 0
        return self._servers[src]

    def _look_up(self, sld: str, site: Site) -> list[Verdict]:
        """Look the site up in the lists and in the TLD table."""
        common = self._lists.common
        key = (common is not None and sld not in common.names, self._profile.tld_points(site.tld))
        verdicts = self._tables.get(key)
        if verdicts is None:
            verdicts = self._tables[key] = [self._verdict(*key, index) for index in range(32)]
        site.verdicts = verdicts
        site.is_watched = sld in self._watched
        return verdicts

    def _verdict(self, uncommon: bool, tld_points: int, index: int) -> Verdict:
        """Add up one combination."""
        points = self._profile.points
        given = {
            "uncommon": uncommon,
            "watch": index & _WATCH,
            "first_seen": index & _FIRST,
            "long": index & _LONG,
            "short": index & _SHORT,
            "server": index & _SERVER,
        }
        reasons = {reason: points[reason] for reason, holds in given.items() if holds}
        if tld_points:
            reasons["tld"] = tld_points
        flags = "".join(REASON_FLAGS[reason] for reason in reasons)
        return sum(reasons.values()), flags or "None", reasons
