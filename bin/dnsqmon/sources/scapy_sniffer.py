"""Interfaces in, batches of frames out, through scapy: for the systems and links that it knows."""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from dnsqmon.core.errors import ConfigError, SourceError
from dnsqmon.core.record import FrameBatch
from dnsqmon.sources import privileges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.core.record import Frame

log = logging.getLogger(__name__)

#: The name that stands for all interfaces.
ANY = "any"

_ETHERNET, _RAW_IP = 1, 101  # LINKTYPE_ numbers of the tcpdump registry
_BATCH_SECONDS = 0.25
_LAST_SECONDS = 1.0  # for what the sockets hold at the end
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h


class ScapySniffer:
    """Packets of one, of several or of all (`any`) interfaces, through scapy's listening sockets.

    There is no filter but `expression` (see pcap-filter(7)): tunnels reach the decoder too. Of a
    link that is not Ethernet, scapy finds the IP packet. `any` are the interfaces of the moment.
    ConfigError if scapy, an interface or the right to capture is missing.
    """

    def __init__(
        self,
        interfaces: Sequence[str],
        *,
        promiscuous: bool = True,
        expression: str | None = None,
        buffer_megabytes: int = 64,
    ) -> None:
        try:
            from scapy import all as scapy  # noqa: PLC0415 - half a second, and may be missing
        except ImportError as error:
            raise ConfigError(
                f"--engine scapy: scapy is missing ({error}); install it: pip install scapy"
            ) from error
        self.name = ",".join(interfaces)
        self._scapy = scapy
        self._stopping = False
        self._closed = False
        scapy.conf.bufsize = buffer_megabytes << 20
        names = list(scapy.conf.ifaces) if ANY in interfaces else list(dict.fromkeys(interfaces))
        self._taps: list[_Tap] = []
        try:
            for name in names:
                self._taps.append(_Tap(scapy, name, promiscuous, expression))
        except BaseException:
            self.close()
            raise

    def batches(self) -> Iterator[FrameBatch]:
        """Yield a batch an interface at least every half second, if need be an empty one."""
        while not self._stopping:
            self._receive(_BATCH_SECONDS)
            for tap in self._taps:
                yield tap.batch()
        until = time.monotonic() + _LAST_SECONDS
        while self._receive(0) and time.monotonic() < until:
            for tap in self._taps:
                yield tap.batch()
        for tap in self._taps:
            yield tap.batch()

    def losses(self) -> Mapping[str, int]:
        """Count packets that found a socket's buffer full, and that were left there at the end.

        Both are known where the system (Linux) tells.
        """
        for tap in self._taps:
            tap.read_statistics()
        return {
            "kernel_dropped": sum(tap.dropped for tap in self._taps),
            "unread": sum(tap.unread() for tap in self._taps) if self._closed else 0,
        }

    def counts(self) -> Mapping[str, int]:
        """Count nothing more."""
        return {}

    def stop(self) -> None:
        """Make `batches` end after what the sockets hold; may be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Close the sockets; the counts stay."""
        self.losses()
        self._closed = True
        for tap in self._taps:
            tap.socket.close()

    def _receive(self, wait: float) -> bool:
        """Receive for a quarter of a second, but not on when nothing came for `wait` seconds.

        Says whether there may be more.
        """
        taps = {tap.socket: tap for tap in self._taps}
        until = time.monotonic() + _BATCH_SECONDS
        while time.monotonic() < until:
            ready = self._scapy.conf.L2listen.select(list(taps), wait)
            for sock in ready:
                taps[sock].receive()
            if not ready:
                return False
        return True


class _Tap:
    """A listening socket of scapy, and the frames it gave since the last batch."""

    def __init__(
        self,
        scapy: Any,  # noqa: ANN401 - the module scapy.all, which has no types
        interface: str,
        promiscuous: bool,
        expression: str | None,
    ) -> None:
        self.dropped = 0
        self._captured = 0  # by the kernel's count, with the dropped ones
        self._read = 0
        self._scapy = scapy
        self._interface = interface
        self._frames: list[Frame] = []
        self._echoes = sys.platform == "linux" and interface == scapy.conf.loopback_name
        self._echo: bytes | None = None
        try:
            self.socket = scapy.conf.L2listen(
                iface=interface, promisc=promiscuous, filter=expression
            )
        except PermissionError as error:
            raise ConfigError(privileges.how_to_allow_capture()) from error
        except (OSError, ValueError, scapy.Scapy_Exception) as error:
            raise ConfigError(f"--engine scapy --interface {interface}: {error}") from error
        self._link_type = _ETHERNET if self.socket.LL is scapy.Ether else _RAW_IP
        # What came before the filter was in force was counted, and thrown away by scapy.
        self.read_statistics()
        self._captured = self.dropped = 0

    def receive(self) -> None:
        """Take one packet from the socket."""
        try:
            layer, frame, seconds = self.socket.recv_raw()
            self._read += 1
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise SourceError(f"interface {self._interface}: {error}") from error
            log.warning("interface %s is down: waiting for it", self._interface)
            return
        if frame is None:
            return
        if self._echoes:  # Linux shows what is sent on loopback, and then shows it as received
            if frame == self._echo:
                self._echo = None
                return
            self._echo = frame
        if self._link_type == _RAW_IP:
            packet = layer(frame)
            found = packet.getlayer(self._scapy.IP) or packet.getlayer(self._scapy.IPv6)
            if not found:
                return
            frame = found.original
        self._frames.append((int(float(seconds) * 1_000_000_000), frame))

    def batch(self) -> FrameBatch:
        """Return what came since the last time."""
        frames, self._frames = self._frames, []
        return FrameBatch(self._link_type, frames)

    def read_statistics(self) -> None:
        """Add what the kernel dropped since the last time; reading sets its counter to zero."""
        listening = getattr(self.socket, "ins", None)
        if sys.platform != "linux" or not isinstance(listening, socket.socket):
            return
        if listening.fileno() >= 0:
            counts = listening.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            captured, dropped = struct.unpack("II", counts)
            self._captured += captured
            self.dropped += dropped

    def unread(self) -> int:
        """Count what came and was not read, where the system tells."""
        return max(0, self._captured - self.dropped - self._read)
