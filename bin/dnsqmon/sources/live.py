"""Linux interfaces in, batches of frames out."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from dnsqmon import privileges
from dnsqmon.errors import ConfigError, SourceError
from dnsqmon.record import FrameBatch
from dnsqmon.sources.bpf import port_filter
from dnsqmon.sources.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.sources.bpf import Instruction

log = logging.getLogger("dnsqmon")

#: The name that stands for all interfaces, present and future.
ANY = "any"

#: LINKTYPE_ETHERNET of the tcpdump registry: the ring gives one form for every kind of interface.
LINK_TYPE = 1

_CHECK_SECONDS = 1.0
_IDLE_SECONDS = 0.25
_DRAIN_PAUSE = 0.01
_MONITOR_MODE = (801, 802, 803)  # ARPHRD_IEEE80211 and its variants: no EtherType to go by
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1


class LiveCapture:
    """Packets from and to the chosen ports on one, on several or on all (`any`) interfaces.

    Opening needs CAP_NET_RAW, anything later does not. `program` (see `pcap_filter`) replaces the
    filter made from `ports`. ConfigError if an interface or the right is missing.
    """

    def __init__(
        self,
        interfaces: Sequence[str],
        ports: Sequence[int],
        *,
        promiscuous: bool = True,
        ring_megabytes: int = 64,
        block_ms: int = 100,
        snap_length: int = 65535,
        program: Sequence[Instruction] | None = None,
    ) -> None:
        if ANY in interfaces and len(interfaces) > 1:
            message = f"--interface {ANY} already watches every interface: leave out the others"
            raise ConfigError(message)
        self.name = ",".join(interfaces)
        self._drain_seconds = 0.1 + 2 * block_ms / 1000
        self._stopping = False
        self._taps: list[_Tap] = []
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._wake_reader, select.POLLIN)
        accept = port_filter(ports, snap_length) if program is None else program
        try:
            for interface in dict.fromkeys(interfaces):
                ring = _open_ring(accept, ring_megabytes, block_ms, once=interface == ANY)
                self._taps.append(_Tap(interface, ring, promiscuous=promiscuous))
                self._poll.register(ring.socket, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def batches(self) -> Iterator[FrameBatch]:
        """Yield a batch for each block of a ring; an empty one when a quarter second was idle."""
        next_check = 0.0
        while not self._stopping:
            idle = True
            for tap in self._taps:
                frames = tap.ring.read_block()
                if frames is not None:
                    idle = False
                    yield FrameBatch(LINK_TYPE, frames)
            if time.monotonic() >= next_check:
                for tap in self._taps:
                    tap.check()
                next_check = time.monotonic() + _CHECK_SECONDS
            if idle:
                events = self._poll.poll(_IDLE_SECONDS * 1000)
                if not events:
                    yield FrameBatch(LINK_TYPE, [])
                elif any(event & select.POLLERR for _, event in events):
                    next_check = 0.0
        yield from self._drain()

    def losses(self) -> Mapping[str, int]:
        """Packets the kernel dropped because a ring was full, and copies left out on `any`."""
        self._read_statistics()
        return {
            "kernel_dropped": sum(tap.ring.dropped for tap in self._taps),
            "duplicate": sum(tap.ring.duplicates for tap in self._taps),
        }

    def waiting(self) -> int:
        """Packets that passed the filter and still lie in a ring."""
        self._read_statistics()
        rings = [tap.ring for tap in self._taps]
        return sum(ring.captured - ring.dropped - ring.read for ring in rings)

    def filtered(self) -> int:
        """Packets that the filter kept out; no loss, but who sees no records wants to know."""
        self._read_statistics()
        return sum(tap.ring.filtered for tap in self._taps)

    def freezes(self) -> int:
        """How often a ring was found full; each time may have cost one packet or many."""
        self._read_statistics()
        return sum(tap.ring.freezes for tap in self._taps)

    def stop(self) -> None:
        """Make `batches` end after what is in the rings; may be called from a signal handler."""
        self._stopping = True
        self._wake_writer.send(b"\0")

    def close(self) -> None:
        """Give the rings back and close the sockets; the counts stay."""
        self._read_statistics()
        for tap in self._taps:
            tap.ring.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain(self) -> Iterator[FrameBatch]:
        """Yield what is in the rings: whole blocks, then the one that time has to complete."""
        for tap in self._taps:
            tap.ring.shut()
        idle_until = time.monotonic() + self._drain_seconds
        while self.waiting() and time.monotonic() < idle_until:
            idle = True
            for tap in self._taps:
                frames = tap.ring.read_block()
                if frames is not None:
                    idle = False
                    yield FrameBatch(LINK_TYPE, frames)
            if idle:
                time.sleep(_DRAIN_PAUSE)
            else:
                idle_until = time.monotonic() + self._drain_seconds

    def _read_statistics(self) -> None:
        for tap in self._taps:
            tap.ring.read_statistics()


class _Tap:
    """An interface, by name, and the ring that its packets go to as long as it is up."""

    def __init__(self, interface: str, ring: Ring, *, promiscuous: bool) -> None:
        self.ring = ring
        self._interface = interface
        self._promiscuous = promiscuous and interface != ANY
        self._index = 0
        self._up = True
        try:
            self._bind()
        except OSError as error:
            ring.close()
            raise _refusal(interface, error) from error
        if ring.socket.getsockname()[3] in _MONITOR_MODE:
            ring.close()
            message = f"--interface {interface} is in monitor mode, use --engine scapy for it"
            raise ConfigError(message)

    def check(self) -> None:
        """Note that the interface went down or away, or bind to it again when it is back.

        A packet socket is not told its name: a removed interface leaves it bound to nothing. Going
        down leaves it bound, and the kernel resumes by itself; to bind again does no harm then.
        """
        error = self.ring.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error == errno.ENETDOWN:
            if self._up:
                log.warning("interface %s is down: waiting for it", self._interface)
            self._up = False
        elif error:
            message = f"interface {self._interface}: {os.strerror(error)}"
            raise SourceError(message)
        if not self._up and _is_up(self._interface):
            try:
                self._bind()
            except OSError:  # gone again, between the two calls
                return
            self._up = True
            log.warning("interface %s is back", self._interface)

    def _bind(self) -> None:
        index = 0 if self._interface == ANY else socket.if_nametoindex(self._interface)
        self.ring.bind(index)
        if self._promiscuous and index != self._index:
            self.ring.make_promiscuous(index)
        self._index = index


def _open_ring(
    program: Sequence[Instruction], megabytes: int, block_ms: int, *, once: bool
) -> Ring:
    try:
        return Ring(program, megabytes, block_ms, once=once)
    except PermissionError as error:
        raise ConfigError(privileges.how_to_allow_capture()) from error
    except MemoryError as error:
        raise _no_memory(megabytes) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _no_memory(megabytes) from error
        message = f"the kernel refuses a packet ring ({error.strerror}): use --engine scapy"
        raise ConfigError(message) from error


def _no_memory(megabytes: int) -> ConfigError:
    return ConfigError(f"--ring-size {megabytes}: not enough memory, choose a smaller ring")


def _refusal(interface: str, error: OSError) -> ConfigError:
    names = [name for _, name in socket.if_nameindex()]
    if interface not in names:
        reason = f"there is no such interface; there are {', '.join(names)}, and {ANY}"
    else:
        reason = error.strerror or str(error)
    return ConfigError(f"--interface {interface}: {reason}")


def _is_up(interface: str) -> bool:
    """Ask for the flags of an interface (netdevice(7)); one that is not there is not up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16s24x", interface.encode())
        try:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
        except OSError:
            return False
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return bool(flags & _IFF_UP)
