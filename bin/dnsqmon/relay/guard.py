"""Which signed datagrams are taken: the signature fits, they are fresh, and each comes once."""

from __future__ import annotations

import hmac
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Callable

from dnsqmon.relay.wire import SIGNED_TAG, Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that the clocks of client and server, and the way between them, may differ by.
FRESH = 300
#: How far behind the newest a datagram may come and still be told from a replay.
WINDOW = 1024
#: Signing clients kept count of at once; only holders of the key can use this up.
MOST_SESSIONS = 10_000

_HEAD = re.compile(rb"1,([0-9a-f]{16}),([1-9][0-9]{0,18}),([0-9]{1,12}),").match


class Guard:
    """Opens signed datagrams, and counts what was lost on the way from each client.

    A session is remembered for as long as its datagrams are fresh, and nothing sent before the
    guard was made is taken, so that neither time nor a restart of the server opens a way for
    replays. The clock is `now`, in epoch seconds.
    """

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now
        self._began = int(now())
        self._sessions: dict[bytes, _Session] = {}
        self._lost: Counter[str] = Counter()  # of sessions that ended

    def open(self, datagram: bytes, sender: str) -> bytes:
        """Return the line of a datagram that carries SIGNED_TAG; raises RefusedError."""
        match = _HEAD(datagram, len(SIGNED_TAG))
        if match is None:
            raise RefusedError(Refusal.BAD_SIGNATURE)
        head_end, mac_end = match.end(), match.end() + 64
        line = datagram[mac_end + 1 :]
        mac = hmac.digest(self._key, datagram[:head_end] + line, "sha256").hex().encode()
        if not hmac.compare_digest(mac + b",", datagram[head_end : mac_end + 1]):
            raise RefusedError(Refusal.BAD_SIGNATURE)
        now, sent = self._now(), int(match[3])
        if sent < self._began or abs(now - sent) > FRESH:
            raise RefusedError(Refusal.NOT_FRESH)
        session = self._sessions.get(match[1]) or self._begin(match[1], sender, now)
        session.heard = now
        if not session.accept(int(match[2])):
            raise RefusedError(Refusal.REPLAYED)
        return line

    def lost(self) -> Mapping[str, int]:
        """Count, by the address of the client, the datagrams missing among those that came.

        What is still on its way counts as lost until it comes; what was lost before a client's
        first datagram or after its last cannot be known.
        """
        lost = Counter(self._lost)
        for session in self._sessions.values():
            lost[session.sender] += session.missing()
        return lost

    def _begin(self, name: bytes, sender: str, now: float) -> _Session:
        if len(self._sessions) >= MOST_SESSIONS:
            for old in [key for key, one in self._sessions.items() if now - one.heard > 2 * FRESH]:
                ended = self._sessions.pop(old)
                self._lost[ended.sender] += ended.missing()
            if len(self._sessions) >= MOST_SESSIONS:
                raise RefusedError(Refusal.TOO_MANY_CLIENTS)
        session = self._sessions[name] = _Session(sender, now)
        return session


class _Session:
    """The sequence numbers seen of one client: the sliding window of RFC 4303, section 3.4.3."""

    def __init__(self, sender: str, heard: float) -> None:
        self.sender = sender
        self.heard = heard
        self._first = 0
        self._highest = 0
        self._received = 0
        self._seen = 0  # bit n: highest - n came

    def accept(self, sequence: int) -> bool:
        """Say whether the number is new, and remember it."""
        ahead = sequence - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self._highest = sequence
        elif ahead <= -WINDOW or self._seen >> -ahead & 1:
            return False
        else:
            self._seen |= 1 << -ahead
        self._first = min(self._first or sequence, sequence)
        self._received += 1
        return True

    def missing(self) -> int:
        """Count the numbers between the first and the highest that did not come."""
        return self._highest - self._first + 1 - self._received if self._received else 0


_MASK = (1 << WINDOW) - 1
