"""Whether a UDP port of the loopback has a listener, which only trying to take it can tell."""

from __future__ import annotations

import socket


def is_bound(port: int) -> bool:
    """Say whether somebody has the port on 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
