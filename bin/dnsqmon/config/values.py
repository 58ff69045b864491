"""What people write as the value of a setting, to the value: ValueError says what to give."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Callable, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Parse a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(text)

    return parse


def port_number(text: str) -> int:
    """Parse one port number."""
    return whole_number(1, 65535)(text)


def host(text: str) -> str:
    """Parse an IP address or a host name; the resolver has the last word on names."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if re.fullmatch(r"[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?", text):
            return text
    raise ValueError("give an IP address or a host name")


def listening_address(text: str) -> tuple[str, int]:
    """Parse ADDRESS:PORT, with an IPv6 address in brackets."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]+)", text)
    try:
        if match:
            return str(ipaddress.ip_address(match[1] or match[2])), port_number(match[3])
    except ValueError:
        pass
    raise ValueError("give ADDRESS:PORT, as 127.0.0.1:9153 or [::1]:9153")


def network(text: str) -> Network:
    """Parse a network, or an address as a network of one."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"give a network as 192.0.2.0/24 or 2001:db8::/32 ({error})") from error


def size(text: str) -> int:
    """Parse a size of a megabyte or more: bytes, or with K, M, G, T (powers of 1,024)."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)", text, re.IGNORECASE)
    number = int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ") if match else 0
    if not 1 << 20 <= number < 1 << 60:
        raise ValueError("give a size of at least 1M, as 500M or 2G")
    return number


def index_name(text: str) -> str:
    """Parse the name of a Splunk index (indexes.conf.spec)."""
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,127}", text):
        raise ValueError("give lower-case letters, digits, underscores and hyphens")
    return text


def node_name(text: str) -> str:
    """Parse the node name, which is one field of every line and of syslog headers."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,255}", text):
        raise ValueError("give 1 to 255 letters, digits, dots, hyphens, underscores and colons")
    return text


def own_name() -> str:
    """Return the host's name, with a hyphen for what a node name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname())[:255] or "localhost"
