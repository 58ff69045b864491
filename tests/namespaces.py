"""Network namespaces of a test's own, so that no packet of a test leaves the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class Namespace:
    """A network namespace with a name, in which commands and functions can be run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, arguments: str) -> None:
        """Run `ip` with these arguments on this namespace."""
        subprocess.run(["ip", "-n", self.name, *arguments.split()], check=True)

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - as subprocess.run
        """Run a command in this namespace to its end, its output kept as text."""
        options = {"check": True, "capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run(self._inside(*command), **options)  # noqa: PLW1510 - it is an option

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - as subprocess.Popen
        """Start a command in this namespace."""
        return subprocess.Popen(self._inside(*command), text=True, **options)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is in this namespace: its sockets belong to it."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                self._enter()
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def send_frames(self, interface: str, frames: Iterable[bytes]) -> None:
        """Put frames, from the Ethernet header on, on the wire as they are."""

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
                wire.bind((interface, 0))
                for frame in frames:
                    wire.send(frame)

        self.call(send)

    def _enter(self) -> None:
        """Put this thread into the namespace (setns(2); in the os module only since 3.12)."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.setns(descriptor, _CLONE_NEWNET)
        os.close(descriptor)
        if failed:
            raise OSError(ctypes.get_errno(), "setns")

    def _inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with its loopback up; remove it, and what is left running in it, after."""
    name = f"dnsqmon-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = Namespace(name)
        made.ip("link set lo up")
        yield made
    finally:
        # It fails when a process ends while it looks; then there is one less to end.
        listed = subprocess.run(
            ["ip", "netns", "pids", name], check=False, capture_output=True, text=True
        )
        for process in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), 9)
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def veth_pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Make a client's and a server's namespace, joined by a cable: eth0 in both, 192.0.2.1 and .2.

    IPv6: 2001:db8::1 and ::2.
    """
    with namespace() as client, namespace() as server:
        client.ip(f"link add eth0 type veth peer name eth0 netns {server.name}")
        for number, end in ((1, client), (2, server)):
            end.ip(f"addr add 192.0.2.{number}/24 dev eth0")
            end.ip(f"addr add 2001:db8::{number}/64 dev eth0 nodad")
            end.ip(f"link set eth0 address 02:00:00:00:01:0{number} mtu 9000 up")
        # The ends know each other: to look for the other one would reorder what is sent meanwhile.
        for number, end in ((2, client), (1, server)):
            for address in (f"192.0.2.{number}", f"2001:db8::{number}"):
                end.ip(f"neigh replace {address} lladdr 02:00:00:00:01:0{number} dev eth0")
        yield client, server
