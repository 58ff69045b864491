"""Linux interfaces in, batches of frames out."""

from __future__ import annotations

import logging
import select
import socket
import time
from typing import TYPE_CHECKING

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.record import FrameBatch
from dnsqmon.sources.bpf import port_filter
from dnsqmon.sources.tap import ANY, Tap, open_ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.sources.bpf_assembler import Instruction

log = logging.getLogger(__name__)

#: LINKTYPE_ETHERNET of the tcpdump registry: the ring gives one form for every kind of interface.
LINK_TYPE = 1

_CHECK_SECONDS = 1.0
_IDLE_SECONDS = 0.25
_REPORT_SECONDS = 15.0
_DRAIN_PAUSE = 0.01


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
            raise ConfigError(
                f"--interface {ANY} already watches every interface: leave out the others"
            )
        self.name = ",".join(interfaces)
        self._drain_seconds = 0.1 + 2 * block_ms / 1000
        self._stopping = self._closed = False
        self._reported = 0, 0  # drops, freezes
        self._report_at = 0.0
        self._taps: list[Tap] = []
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._wake_reader, select.POLLIN)
        accept = port_filter(ports, snap_length) if program is None else program
        try:
            for interface in dict.fromkeys(interfaces):
                ring = open_ring(accept, ring_megabytes, block_ms, once=interface == ANY)
                self._taps.append(Tap(interface, ring, promiscuous=promiscuous))
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
                self._report_drops()
                next_check = time.monotonic() + _CHECK_SECONDS
            if idle:
                events = self._poll.poll(_IDLE_SECONDS * 1000)
                if not events:
                    yield FrameBatch(LINK_TYPE, [])
                elif any(event & select.POLLERR for _, event in events):
                    next_check = 0.0
        yield from self._drain()

    def losses(self) -> Mapping[str, int]:
        """Count packets that found a ring full, and that were left in one at the end."""
        self._read_statistics()
        rings = [tap.ring for tap in self._taps]
        left = sum(ring.waiting for ring in rings) if self._closed else 0
        return {"kernel_dropped": sum(ring.dropped for ring in rings), "left_in_ring": left}

    def counts(self) -> Mapping[str, int]:
        """Count copies left out on `any`, what the filter kept out, how often a ring was full."""
        self._read_statistics()
        rings = [tap.ring for tap in self._taps]
        return {
            "duplicate": sum(ring.duplicates for ring in rings),
            "filtered": sum(ring.filtered for ring in rings),
            "ring_freezes": sum(ring.freezes for ring in rings),
            "waiting_in_ring": 0 if self._closed else sum(ring.waiting for ring in rings),
        }

    def stop(self) -> None:
        """Make `batches` end after what is in the rings; may be called from a signal handler."""
        if not self._stopping:  # a second signal may come when everything is closed
            self._stopping = True
            self._wake_writer.send(b"\0")

    def close(self) -> None:
        """Release the rings and close the sockets; the counts stay."""
        self._read_statistics()
        self._closed = True
        for tap in self._taps:
            tap.ring.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _report_drops(self) -> None:
        """Log what was dropped since the last report, which was a while ago."""
        dropped, freezes = self.losses()["kernel_dropped"], self.counts()["ring_freezes"]
        now = time.monotonic()
        if dropped > self._reported[0] and now >= self._report_at:
            log.warning(
                "%d packets dropped, %d ring freezes: set --ring-size higher",
                dropped - self._reported[0],
                freezes - self._reported[1],
            )
            self._reported = dropped, freezes
            self._report_at = now + _REPORT_SECONDS

    def _drain(self) -> Iterator[FrameBatch]:
        """Yield what is in the rings: whole blocks, then the one that time has to complete."""
        for tap in self._taps:
            tap.ring.shut()
        idle_until = time.monotonic() + self._drain_seconds
        while self.counts()["waiting_in_ring"] and time.monotonic() < idle_until:
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
