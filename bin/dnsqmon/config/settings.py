"""The one table of settings: name, type, default, flags, help, and where each applies.

The command line, `--config`, the Splunk scheme, inputs.conf.spec and the README are made from
this table or checked against it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Callable

from dnsqmon.config.values import (
    Network,
    host,
    index_name,
    listening_address,
    network,
    node_name,
    own_name,
    port_number,
    size,
    whole_number,
)
from dnsqmon.core.addresses import Address, HecUrl, hec_url, syslog_address
from dnsqmon.core.errors import ConfigError
from dnsqmon.core.record_types import parse_types
from dnsqmon.core.syslog_codes import FACILITIES, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Setting:
    """One row of the table, without its name, type and default, which the dataclass holds."""

    #: Empty for a parameter of the Splunk modular input alone.
    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    parse: Callable[[str], Any] = str
    #: May be given more than once (command line), as a list (config) or comma-separated (Splunk).
    many: bool = False
    #: The value that the bare flag stands for, where the flag's own value may be left out.
    bare: str | None = None
    #: A parameter of the Splunk modular input as well.
    splunk: bool = False
    #: What Splunk shows for it, where `help` is about the command line.
    splunk_help: str = ""


def setting(default: Any, *flags: str, help: str, **row: Any) -> Any:  # noqa: A002, ANN401 - as argparse
    """Make a field of `Settings` whose metadata is its row of the table."""
    return field(default=default, metadata={"setting": Setting(flags, help, **row)})


@dataclass(frozen=True)
class Settings:
    """What the user asked for; each field is one setting (see the module's docstring)."""

    interface: tuple[str, ...] = setting(
        (), "-i", "--interface", metavar="<interface>", many=True, splunk=True,
        help="Interface to monitor (e.g. eth0), or 'any' for all; may be given more than once.",
        splunk_help="Interfaces to monitor, comma-separated (e.g. eth0), or 'any' for all.",
    )  # fmt: skip
    write: str | None = setting(
        None, "-w", "--write", metavar="<csv|sql>", choices=("csv", "sql"),
        help="Write the records to a CSV file or to a SQLite database.",
    )  # fmt: skip
    read: str | None = setting(
        None, "-r", "--read", metavar="<pcap file>", splunk=True,
        help="Read a pcap or pcapng file (plain, gzip, bzip2, xz; - for standard input) "
        "instead of listening to the network.",
        splunk_help="Capture file (pcap or pcapng; plain, gzip, bzip2, xz), or a folder of them; "
        "each is read once.",
    )  # fmt: skip
    filename: str | None = setting(
        None, "-f", "--filename", metavar="<file name>",
        help="Name of the CSV file or of the database (default: queries.csv, queries.db).",
    )  # fmt: skip
    time: int = setting(
        15, "-t", "--time", metavar="<seconds>", parse=whole_number(1, 86400),
        help="Seconds between two writes to a file, and between two status lines (default: 15).",
    )  # fmt: skip
    display: bool = setting(False, "-d", "--display", help="Display each query on the screen.")
    name: str = setting(
        own_name(), "-n", "--name", metavar="<host name>", parse=node_name, splunk=True,
        help="Name of this node in the records (default: the host's name).",
    )  # fmt: skip
    watchlist: str | None = setting(
        None, "--watchlist", metavar="<file name>", splunk=True,
        help="Domains to watch for, one a line or CSV with a column `domain`; a hit sets flag b.",
    )  # fmt: skip
    commonlist: str | None = setting(
        None, "--commonlist", metavar="<file name>", splunk=True,
        help="Common domains; a query for any other registrable domain sets flag u.",
    )  # fmt: skip
    serverlist: str | None = setting(
        None, "--serverlist", metavar="<file name>", splunk=True,
        help="Addresses or networks (CIDR) of known DNS servers; queries they send set flag d.",
    )  # fmt: skip
    client: str | None = setting(
        None, "--client", metavar="<server ip>", parse=host,
        help="Send the records to another dnsqmon that runs with --server.",
    )  # fmt: skip
    server: str | None = setting(
        None, "--server", metavar="<listening ip>", parse=host, splunk=True,
        help="Receive records from dnsqmon clients on this address; use with -w or -d.",
        splunk_help="Receive records from dnsqmon clients on this address.",
    )  # fmt: skip
    port: int = setting(
        54321, "-p", "--port", metavar="<port number>", parse=port_number, splunk=True,
        help="UDP port of --client and --server.",
    )  # fmt: skip
    allow: tuple[Network, ...] = setting(
        (), "--allow", metavar="<network>", parse=network, many=True, splunk=True,
        help="With --server, listen only to clients in this network, e.g. 192.0.2.0/24; may be "
        "given more than once (default: all).",
    )  # fmt: skip
    key_file: str | None = setting(
        None, "--key-file", metavar="<file name>", splunk=True,
        help="File with the key that signs what --client sends, and that --server then asks for.",
    )  # fmt: skip
    syslog: tuple[Address, ...] = setting(
        (), "--syslog", metavar="<syslog server>", parse=syslog_address, many=True,
        help="Send the records to a syslog server: a host, or udp://, tcp:// or tls://host:port; "
        "may be given more than once.",
    )  # fmt: skip
    syslog_format: str = setting(
        "rfc3164", "--syslog-format", metavar="<format>",
        choices=("rfc3164", "rfc5424", "original"),
        help="Format of syslog messages: rfc3164 (default), rfc5424, or original, without header.",
    )  # fmt: skip
    syslog_framing: str = setting(
        "auto", "--syslog-framing", metavar="<framing>",
        choices=("auto", "newline", "octet-counting"),
        help="What separates messages on a TCP or TLS connection (default: auto, which is newline "
        "for the old formats over TCP, else octet-counting).",
    )  # fmt: skip
    syslog_facility: str = setting(
        "user", "--syslog-facility", metavar="<facility>", choices=FACILITIES,
        help="Facility of syslog messages (default: user).",
    )  # fmt: skip
    syslog_severity: str = setting(
        "info", "--syslog-severity", metavar="<severity>", choices=(*SEVERITIES, "score"),
        help="Severity of syslog messages (default: info), or score: notice from a score of 10, "
        "warning from 35, err from 50.",
    )  # fmt: skip
    syslog_max: int = setting(
        1024, "--syslog-max", metavar="<octets>", parse=whole_number(480, 65507),
        help="Longest UDP message; a record that makes a longer one is counted, not cut.",
    )  # fmt: skip
    syslog_connections: int = setting(
        1, "--syslog-connections", metavar="<number>", parse=whole_number(1, 64),
        help="TCP or TLS connections to each syslog server, which share the records.",
    )  # fmt: skip
    hec: tuple[HecUrl, ...] = setting(
        (), "--hec", metavar="<url>", parse=hec_url, many=True,
        help="Send the records to Splunk's HTTP Event Collector, as https://host:8088; several "
        "share the records.",
    )  # fmt: skip
    hec_token_file: str | None = setting(
        None, "--hec-token-file", metavar="<file name>",
        help="File with the collector's token (else the environment variable DNSQMON_HEC_TOKEN).",
    )  # fmt: skip
    hec_endpoint: str = setting(
        "event", "--hec-endpoint", metavar="<event|raw>", choices=("event", "raw"),
        help="Endpoint of the collector (default: event).",
    )  # fmt: skip
    hec_index: str | None = setting(
        None, "--hec-index", metavar="<index>", parse=index_name,
        help="Splunk index to send to (default: the token's own).",
    )  # fmt: skip
    hec_ack: bool = setting(
        False, "--hec-ack",
        help="Keep records until the indexer acknowledges them; not for Splunk Cloud.",
    )  # fmt: skip
    tls_ca: str | None = setting(
        None, "--tls-ca", metavar="<file name>",
        help="PEM file of the CAs that may have issued a receiver's certificate (default: the "
        "system's).",
    )  # fmt: skip
    tls_cert: str | None = setting(
        None, "--tls-cert", metavar="<file name>",
        help="PEM file with the certificate to show a receiver that asks for one.",
    )  # fmt: skip
    tls_key: str | None = setting(
        None, "--tls-key", metavar="<file name>",
        help="PEM file with the key of --tls-cert, where it is not in the same file.",
    )  # fmt: skip
    no_tls_verify: bool = setting(
        False, "--no-tls-verify",
        help="Send to whoever answers: do not verify a receiver's certificate.",
    )  # fmt: skip
    spool_dir: str | None = setting(
        None, "--spool-dir", metavar="<directory>",
        help="Keep what waits for a TCP, TLS or HEC receiver in files here, across restarts.",
    )  # fmt: skip
    spool_max: int = setting(
        1 << 30, "--spool-max", metavar="<size>", parse=size,
        help="The most that waits for one receiver, as 500M or 2G (default: 1G); then the oldest "
        "records are dropped and counted.",
    )  # fmt: skip
    json: str | None = setting(
        None, "--json", metavar="<file name>", bare="-",
        help="Write JSON lines to a file, or without a file name to standard output.",
    )  # fmt: skip
    ports: tuple[int, ...] = setting(
        (53,), "--ports", metavar="<ports>", parse=port_number, many=True, splunk=True,
        help="UDP and TCP ports that carry DNS, comma-separated (default: 53; mDNS is 5353, "
        "LLMNR 5355).",
    )  # fmt: skip
    types: tuple[int, ...] = setting(
        (1, 28, 12), "--types", metavar="<types>", parse=parse_types, many=True, splunk=True,
        help="Record types to inspect, comma-separated mnemonics or numbers, or 'all' "
        "(default: A,AAAA,PTR).",
    )  # fmt: skip
    profile: str = setting(
        "classic", "--profile", metavar="<name|file>", splunk=True,
        help="Scoring profile: classic, weighted, or a YAML file of your own.",
    )  # fmt: skip
    first_seen_max: int = setting(
        150_000, "--first-seen-max", metavar="<number>", parse=whole_number(1, 100_000_000),
        splunk=True,
        help="How many second-level domains to remember for flag f; the longest unseen are "
        "forgotten first (default: 150000).",
    )  # fmt: skip
    state: str | None = setting(
        None, "--state", metavar="<file name>",
        help="Keep the domains seen, with first and last time and count, in this file across "
        "restarts.",
    )  # fmt: skip
    utc: bool = setting(
        False, "--utc", splunk=True, help="Write dates and times in UTC instead of local time."
    )
    engine: str = setting(
        "auto", "--engine", metavar="<auto|native|scapy>", choices=("auto", "native", "scapy"),
        splunk=True,
        help="What captures: native needs Linux; scapy knows other systems and links "
        "(default: auto, which is native on Linux).",
    )  # fmt: skip
    filter: str | None = setting(
        None, "--filter", metavar="<expression>", splunk=True,
        help="Capture what this pcap-filter expression accepts, instead of UDP and TCP on "
        "--ports; needs libpcap.",
    )  # fmt: skip
    no_promiscuous: bool = setting(
        False, "--no-promiscuous", splunk=True,
        help="Capture only what the interface is meant to receive or sends.",
    )  # fmt: skip
    ring_size: int = setting(
        64, "--ring-size", metavar="<megabytes>", parse=whole_number(1, 16384), splunk=True,
        help="Memory for packets that wait to be inspected, for each interface.",
    )  # fmt: skip
    block_time: int = setting(
        100, "--block-time", metavar="<milliseconds>", parse=whole_number(1, 1000),
        help="How long the kernel may collect packets before it hands them over.",
    )  # fmt: skip
    snap_length: int = setting(
        65535, "--snap-length", metavar="<bytes>", parse=whole_number(64, 65535),
        help="Capture no more than this of a packet.",
    )  # fmt: skip
    user: str = setting(
        "nobody", "--user", metavar="<user>",
        help="Who to become once the interfaces are open, when started as root "
        "(default: nobody).",
    )  # fmt: skip
    stats_file: str | None = setting(
        None, "--stats-file", metavar="<file name>",
        help="Append an account of every packet to this file every --time seconds, as a line of "
        "JSON.",
    )  # fmt: skip
    metrics: tuple[str, int] | None = setting(
        None, "--metrics", metavar="<address:port>", parse=listening_address,
        help="Serve the account of every packet to Prometheus at this address.",
    )  # fmt: skip
    stats: str | None = setting(
        None, "--stats", metavar="<text|json>", bare="text", choices=("text", "json"),
        help="Account for every packet at the end, on standard error.",
    )  # fmt: skip
    minimum_score: int = setting(
        0, parse=whole_number(0, 1_000_000), splunk=True,
        help="Leave records with a lower score out of Splunk; the statistics count them.",
    )  # fmt: skip
    statistics_interval: int = setting(
        60, parse=whole_number(1, 86400), splunk=True,
        help="Seconds between two statistics events (sourcetype dnsqmon:stats).",
    )  # fmt: skip
    syslog_header: bool = setting(
        True, splunk=True, help="Begin each event with date, time and sensor, as syslog does."
    )


def table() -> dict[str, Setting]:
    """Return every row of the table by the setting's name."""
    return {row.name: row.metadata["setting"] for row in fields(Settings)}


def read_settings(values: Mapping[str, object]) -> Settings:
    """Parse what a face was given: by name, a text, a list of texts, or a boolean.

    Raises ConfigError that names the setting, its value and the fix.
    """
    rows = table()
    for name in values:
        if name not in rows:
            raise ConfigError(f"unknown setting {name}")
    parsed: dict[str, Any] = {
        name: _parse(name, rows[name], value) for name, value in values.items()
    }
    return Settings(**parsed)


def _parse(name: str, row: Setting, value: object) -> object:
    """Parse one value as its row says."""
    if isinstance(value, bool):
        return value
    texts = [str(text) for text in (value if isinstance(value, (list, tuple)) else [value])]
    label = row.flags[-1] if row.flags else name
    if row.many:
        texts = [part.strip() for text in texts for part in text.split(",")]
    texts = [text for text in texts if text]
    if not texts or (len(texts) > 1 and not row.many):
        raise ConfigError(f"{label}: give {'a' if row.many else 'one'} value")
    parsed = [_parse_one(label, row, text) for text in texts]
    return tuple(dict.fromkeys(parsed)) if row.many else parsed[0]


def _parse_one(flag: str, row: Setting, text: str) -> object:
    if row.choices and text not in row.choices:
        raise ConfigError(f"{flag} {text}: give {' or '.join(row.choices)}")
    try:
        return row.parse(text)
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: {error}") from error


def check_sources(settings: Settings) -> None:
    """Refuse what cannot be read from; raises ConfigError."""
    if settings.read and settings.interface:
        raise ConfigError(
            "You must either listen on an interface or read from a packet file; not both."
        )
    if not (settings.read or settings.interface or settings.server):
        raise ConfigError(
            "You must specify an interface (-i) unless reading from a capture file (-r)."
        )


def check_sinks(settings: Settings) -> None:
    """Refuse a command that would do nothing, or both ends of a relay; raises ConfigError."""
    if settings.client and settings.server:
        raise ConfigError("Program cannot be run as a client and a server.")
    if settings.display and settings.json == "-":
        raise ConfigError(
            "Query display (-d) and JSON lines (--json) cannot share standard output; "
            "give --json a file name."
        )
    files = [settings.read, settings.write and settings.filename, settings.json]
    files += [settings.state, settings.stats_file]
    named = [os.path.abspath(name) for name in files if name and name != "-"]  # noqa: PTH100 - no file is touched
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(f"{name} is given for two files: name another for one of them.")
    network_sinks = (settings.client, settings.syslog, settings.hec)
    if not any((settings.display, settings.write, settings.json, *network_sinks)):
        raise ConfigError(
            "You must either turn on query display (-d), write to a file (-w, --json), send to "
            "syslog (--syslog), Splunk (--hec) or a dnsQmon server (--client) to proceed."
        )
