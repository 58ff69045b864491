"""One interface and the ring that its packets go to, as long as it is up."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING

from dnsqmon.core.errors import ConfigError, SourceError
from dnsqmon.sources import privileges
from dnsqmon.sources.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.sources.bpf_assembler import Instruction

log = logging.getLogger(__name__)

#: The name that stands for all interfaces, present and future.
ANY = "any"

_MONITOR_MODE = (801, 802, 803)  # ARPHRD_IEEE80211 and its variants: no EtherType to go by
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1


class Tap:
    """An interface, by name, and the ring that its packets go to as long as it is up."""

    def __init__(self, interface: str, ring: Ring, *, promiscuous: bool) -> None:
        self.ring = ring
        self._interface = interface
        self._promiscuous = promiscuous and interface != ANY
        self._up = True
        try:
            self._bind()
        except OSError as error:
            ring.close()
            raise _refusal(interface, error) from error
        if ring.socket.getsockname()[3] in _MONITOR_MODE:
            ring.close()
            raise ConfigError(
                f"--interface {interface} is in monitor mode, use --engine scapy for it"
            )

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
            raise SourceError(f"interface {self._interface}: {os.strerror(error)}")
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
        if self._promiscuous:  # also where it is in force: it may have ended with the interface
            self.ring.make_promiscuous(index)


def open_ring(program: Sequence[Instruction], megabytes: int, block_ms: int, *, once: bool) -> Ring:
    """Make a ring (see Ring) that is bound to nothing yet; ConfigError says what was refused."""
    try:
        return Ring(program, megabytes, block_ms, once=once)
    except PermissionError as error:
        raise ConfigError(privileges.how_to_allow_capture()) from error
    except MemoryError as error:
        raise _no_memory(megabytes) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _no_memory(megabytes) from error
        raise ConfigError(
            f"the kernel refuses a packet ring ({error.strerror}): use --engine scapy"
        ) from error


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
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        request = struct.pack("16s24x", interface.encode())
        try:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
        except OSError:
            return False
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return bool(flags & _IFF_UP)
