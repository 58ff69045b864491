"""Lines to a TCP or TLS connection, kept until the receiver can be taken to have read them."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import time
from collections import deque
from typing import TYPE_CHECKING, Callable, NamedTuple

from dnsqmon.sinks.destination import Settled, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.addresses import Address
    from dnsqmon.sinks.destination import Batch

#: Syslog over TCP has no acknowledgement. A batch is settled when the peer's kernel has
#: acknowledged it and the connection has lived on for this long, or has carried this much more:
#: if the receiver dies before, what its kernel held is sent again.
HOLD_SECONDS = 5.0
HOLD_BYTES = 16 * 1024 * 1024
#: Seconds to connect, and to wait for a receiver that does not read.
TIMEOUT = 10.0


def by_newline(lines: Sequence[bytes]) -> bytes:
    """Frame messages by a newline after each: RFC 6587 section 3.4.2."""
    return b"\n".join(lines) + b"\n"


def by_octet_count(lines: Sequence[bytes]) -> bytes:
    """Frame messages by their length in octets before each: RFC 6587 section 3.4.1, RFC 5425."""
    return b"".join([b"%d %b" % (len(line), line) for line in lines])


class Stream:
    """One TCP connection, in TLS when there is a `context`; `frame` makes the bytes of a batch."""

    most_lines = 5000
    most_bytes = 512 * 1024
    linger = 0.0

    def __init__(
        self,
        address: Address,
        frame: Callable[[Sequence[bytes]], bytes],
        context: ssl.SSLContext | None = None,
        *,
        hold: float = HOLD_SECONDS,
    ) -> None:
        self.name = str(address)
        self._address = address
        self._frame = frame
        self._context = context
        self._hold = hold
        self._socket: socket.socket | None = None
        self._sent: deque[_Sent] = deque()
        self._sent_bytes = 0  # of the batches that are not settled
        self._octets = 0  # that this connection was given

    def connect(self) -> None:
        """Connect to the first address of the name that answers, and verify its certificate."""
        self._sent.clear()
        self._sent_bytes = self._octets = 0
        host = self._address.host
        try:
            connection = socket.create_connection((host, self._address.port), TIMEOUT)
        except socket.gaierror as error:
            raise Unavailable(f"the name {host} cannot be resolved ({error})") from error
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"no connection ({error})") from error
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(TIMEOUT * 1000))
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise Unavailable(f"the certificate is refused: {error.verify_message}") from error
        except OSError as error:
            connection.close()
            raise Unavailable(f"no TLS connection ({error})") from error
        self._socket = connection

    def try_out(self) -> None:
        """Wait a moment for a receiver that hangs up at once, as one may that wants a certificate.

        In TLS 1.3 the client's handshake is over before the server has judged its certificate.
        """
        for _ in range(5):
            time.sleep(0.1)
            _refuse_if_closed(self._connection())

    def send(self, batch: Batch) -> None:
        """Write the batch to the connection; a receiver that does not read for 10 s is given up."""
        connection = self._connection()
        octets = self._frame(batch.lines)
        try:
            connection.sendall(octets)
        except OSError as error:
            raise Unavailable(f"the connection broke ({error or 'timed out'})") from error
        self._octets += len(octets)
        self._sent.append(_Sent(time.monotonic(), batch, self._octets))
        self._sent_bytes += batch.size

    def settled(self) -> Sequence[Settled]:
        """Return the batches that were acknowledged and held for long enough (see HOLD_SECONDS)."""
        connection = self._connection()
        if not self._sent:
            return []
        _refuse_if_closed(connection)
        acknowledged = self._octets - _unacknowledged(connection)
        old = time.monotonic() - self._hold
        settled: list[Settled] = []
        while self._sent and self._sent[0].end <= acknowledged:
            if self._sent[0].time > old and self._sent_bytes <= HOLD_BYTES:
                break
            settled.append(self._settle_oldest())
        return settled

    def finish(self, seconds: float) -> Sequence[Settled]:
        """Close our half, and wait for the receiver to close its own: then it has read all."""
        connection = self._connection()
        deadline = time.monotonic() + seconds
        try:
            while _unacknowledged(connection) and time.monotonic() < deadline:
                time.sleep(0.005)
            acknowledged = self._octets - _unacknowledged(connection)
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if isinstance(connection, ssl.SSLSocket):
                connection.unwrap()
            else:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
        except (socket.timeout, ssl.SSLError):
            # It lives, but keeps the connection: what its kernel acknowledged is settled.
            pass
        except OSError as error:
            if error.errno:  # not the end of the stream in place of TLS's own goodbye
                raise Unavailable(f"the connection broke ({error})") from error
        settled: list[Settled] = []
        while self._sent and self._sent[0].end <= acknowledged:
            settled.append(self._settle_oldest())
        return settled

    def disconnect(self) -> None:
        """Close the connection, waking a thread that waits in it."""
        connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise Unavailable("closed")
        return self._socket

    def _settle_oldest(self) -> Settled:
        batch = self._sent.popleft().batch
        self._sent_bytes -= batch.size
        return Settled(batch, {})


class _Sent(NamedTuple):
    """A batch that the kernel was given at `time`, up to the octet `end` of the connection.

    TLS adds octets: those that the peer's kernel has not acknowledged are then taken to hold more
    of our text than they do, which errs on the safe side.
    """

    time: float
    batch: Batch
    end: int


#: From linux/tcp.h: give up when sent data stays unacknowledged for so many milliseconds.
_TCP_USER_TIMEOUT = 18


def _unacknowledged(connection: socket.socket) -> int:
    """Octets sent that the peer's kernel has not acknowledged: SIOCOUTQ, tcp(7)."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError) as error:  # closed by `disconnect` in another thread
        raise Unavailable("closed") from error
    return int(count)


def _refuse_if_closed(connection: socket.socket) -> None:
    """Notice a peer that closed, which a sender alone would not: reading then gives the end."""
    try:
        connection.setblocking(False)
        while connection.recv(4096):
            pass  # a syslog receiver has nothing to say; a TLS ticket is no data
    except (BlockingIOError, ssl.SSLWantReadError):
        connection.settimeout(TIMEOUT)
        return
    except OSError as error:  # `disconnect` in another thread is one
        raise Unavailable(f"the connection broke ({error})") from error
    raise Unavailable("the receiver closed the connection")
