"""Where records go to, as people write it: syslog receivers and HTTP Event Collectors."""

from __future__ import annotations

import re
from typing import NamedTuple


class Address(NamedTuple):
    """Where to send: `scheme` is udp, tcp or tls; `host` a name or a bare IP address."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


#: Syslog's registered ports: RFC 5426 section 3.3, RFC 5425 section 4.1; plain TCP has none, 514 is
#: what receivers listen on.
SYSLOG_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}

_ADDRESS = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
    r"|(?P<name>[0-9A-Za-z]([0-9A-Za-z_.-]*[0-9A-Za-z])?))"
    r"(?::(?P<port>\d{1,5}))?/?",
)


def syslog_address(text: str) -> Address:
    """Read `[udp://|tcp://|tls://]host[:port]`, UDP by default; ValueError says what is wrong."""
    match = _ADDRESS.fullmatch(text)
    scheme = (match and match["scheme"]) or "udp"
    if match is None or scheme not in SYSLOG_PORTS:
        raise ValueError(
            "give host, host:port or [IPv6]:port, after udp://, tcp://, tls:// or nothing"
        )
    port = int(match["port"] or SYSLOG_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise ValueError("give a port from 1 to 65535")
    return Address(scheme, match["v6"] or match["bare"] or match["name"], port)


class HecUrl(NamedTuple):
    """Where a collector is: `https` or `http`, and what stands before `/services/collector`."""

    scheme: str
    host: str
    port: int
    prefix: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))"
    r"(?::(?P<port>\d{1,5}))?(?P<prefix>(?:/[0-9A-Za-z._~-]+)*?)"
    r"(?:/services/collector(?:/(?:event|raw|health)(?:/1\.0)?)?)?/?",
)


def hec_url(text: str) -> HecUrl:
    """Read `https://host[:port]`, with HEC's path or without; port 8088 by default."""
    match = _URL.fullmatch(text)
    if match is None or not 1 <= int(match["port"] or 8088) <= 65535:
        raise ValueError("give https://host:port (no user, no query)")
    port = int(match["port"] or 8088)
    return HecUrl(match["scheme"], match["v6"] or match["name"], port, match["prefix"])
