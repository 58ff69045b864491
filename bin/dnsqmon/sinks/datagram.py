"""Lines to UDP datagrams, one each."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from typing import TYPE_CHECKING, Callable

from dnsqmon.sinks.destination import Settled, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.sinks.destination import Batch


class Datagrams:
    """A receiver of UDP; nothing is acknowledged, so a line is settled when the kernel took it.

    `frame` makes the payload of a line. A payload longer than `limit` octets is not sent, and
    counted (`too_long`): what a receiver cuts off would be lost without a word.
    """

    most_lines = 500
    most_bytes = 1 << 20
    linger = 0.0

    def __init__(
        self, host: str, port: int, *, limit: int, frame: Callable[[bytes], bytes] = bytes
    ) -> None:
        self.name = f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
        self._host, self._port = host, port
        self._limit = limit
        self._frame = frame
        self._socket: socket.socket | None = None
        self._settled: list[Settled] = []

    def connect(self) -> None:
        """Resolve the name and take the first address that there is a route to."""
        self._settled.clear()
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"the name {self._host} cannot be resolved ({error})") from error
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                self._socket = connection
                return
        raise Unavailable(f"no route ({failure})") from failure

    def send(self, batch: Batch) -> None:
        """Send every line, once."""
        if self._socket is None:
            raise Unavailable("closed")
        send, frame, limit = self._socket.send, self._frame, self._limit
        lost: Counter[str] = Counter()
        for line in batch.lines:
            payload = frame(line)
            if len(payload) > limit:
                lost["too_long"] += 1
                continue
            try:
                send(payload)
            except ConnectionRefusedError:
                # The answer to an earlier datagram: nobody listens. This one was not sent yet.
                lost["refused"] += 1
                self._again(payload)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise Unavailable(str(error)) from error
                lost["too_long"] += 1
        self._settled.append(Settled(batch, lost))

    def settled(self) -> Sequence[Settled]:
        """Return the batches that were sent."""
        settled, self._settled = self._settled, []
        return settled

    def finish(self, seconds: float) -> Sequence[Settled]:  # noqa: ARG002 - nothing answers
        """Return the batches that were sent."""
        return self.settled()

    def disconnect(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _again(self, payload: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(payload)
        except OSError as error:
            raise Unavailable(str(error)) from error
