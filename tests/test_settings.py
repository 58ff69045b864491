"""`settings`: the one table, what it accepts, and what is checked against it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from dnsqmon.config.settings import (
    Settings,
    check_sinks,
    check_sources,
    read_settings,
    table,
)
from dnsqmon.config.values import own_name
from dnsqmon.core.errors import ConfigError
from needs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# The original's usage text: each option with its short and long form and its value.
USAGE = """\
-i <interface>, --interface <interface>
-w <csv|sql>, --write <csv|sql>
-r <pcap file>, --read <pcap file>
-f <file name>, --filename <file name>
-t <seconds>, --time <seconds>
-d, --display
-n <host name>, --name <host name>
--watchlist <file name>
--commonlist <file name>
--serverlist <file name>
--client <server ip>
--server <listening ip>
-p <port number>, --port <port number>
--syslog <syslog server"""


def usage(flags: tuple[str, ...], metavar: str | None) -> str:
    """Write an option as a usage text does."""
    return ", ".join(f"{flag} {metavar}" if metavar else flag for flag in flags)


def refusal(**values: object) -> str:
    """Return the sentence with which values are refused."""
    with pytest.raises(ConfigError) as caught:
        read_settings(values)
    return str(caught.value)


def test_options_of_the_original() -> None:
    """Every option of the original's usage text is there, with both forms and its value."""
    options = [usage(row.flags, row.metavar) for row in table().values()]
    for line in USAGE.splitlines():
        assert any(option.startswith(line) for option in options), line


def test_rows_are_whole() -> None:
    """No flag stands for two settings, names and long flags agree, every help is a sentence."""
    flags = [flag for row in table().values() for flag in row.flags]
    assert len(flags) == len(set(flags))
    for name, row in table().items():
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)
        assert row.flags[-1:] in ((), ("--" + name.replace("_", "-"),))
        assert row.flags or row.splunk
        assert re.fullmatch(r"[A-Z].*\.", row.help)
        takes_value = bool(row.flags) and not isinstance(getattr(Settings(), name), bool)
        assert bool(row.metavar) is takes_value, name
        assert not set(row.choices) - {row.bare} or row.metavar


def test_defaults() -> None:
    """The defaults are the original's where it had one."""
    settings = read_settings({})
    assert settings == Settings()
    assert (settings.time, settings.port, settings.display) == (15, 54321, False)
    assert (settings.ports, settings.types) == ((53,), (1, 28, 12))
    assert settings.name == own_name()
    assert read_settings({"name": own_name()}).name == own_name()


def test_defaults_pass_their_own_checks() -> None:
    """Each default that can be written down is accepted when it is, and means the same."""
    for name, row in table().items():
        default = getattr(Settings(), name)
        if default in (None, ()):
            continue
        written = default if isinstance(default, bool) else str(default)
        if isinstance(default, tuple):
            written = ",".join(map(str, default))
        assert getattr(read_settings({name: written}), name) == default, row


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("interface", "eth0", ("eth0",)),
        ("interface", ["eth0", "eth1,eth2", "eth0"], ("eth0", "eth1", "eth2")),
        ("interface", " eth0 , ,eth1 ", ("eth0", "eth1")),
        ("ports", "53,5353,53", (53, 5353)),
        ("types", "a,TYPE65,28", (1, 65, 28)),
        ("types", ["all"], (-1,)),
        ("time", "86400", 86400),
        ("time", ["30"], 30),
        ("time", 30, 30),
        ("display", True, True),
        ("client", "192.0.2.1", "192.0.2.1"),
        ("client", "2001:DB8::0:1", "2001:db8::1"),
        ("client", "siem.example.com", "siem.example.com"),
        ("name", "sensor-1.example:2_x", "sensor-1.example:2_x"),
        ("filename", "a, b.csv", "a, b.csv"),
        ("json", "-", "-"),
    ],
)
def test_values(name: str, value: object, parsed: object) -> None:
    """A text, several texts or a switch become the setting's value."""
    assert getattr(read_settings({name: value}), name) == parsed


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("nam", "x", "unknown setting nam"),
        ("time", "", "--time: give one value"),
        ("time", [], "--time: give one value"),
        ("time", ["1", "2"], "--time: give one value"),
        ("time", "15s", "--time 15s: give a whole number from 1 to 86400"),
        ("time", "9" * 19, f"--time {'9' * 19}: give a whole number from 1 to 86400"),
        ("time", None, "--time None: give a whole number from 1 to 86400"),
        ("ports", "", "--ports: give a value"),
        ("ports", " , ", "--ports: give a value"),
        ("ports", "53,-1", "--ports -1: give a whole number from 1 to 65535"),
        ("types", "A,TYPE65536",
         "--types TYPE65536: give record types such as A, AAAA, TXT, TYPE65 or 65, or 'all'"),
        ("write", "CSV", "--write CSV: give csv or sql"),
        ("server", "-x", "--server -x: give an IP address or a host name"),
        ("client", "a b", "--client a b: give an IP address or a host name"),
        ("name", "a" * 256, (f"--name {'a' * 256}: "
         "give 1 to 255 letters, digits, dots, hyphens, underscores and colons")),
        ("name", "a\nb",
         "--name a\nb: give 1 to 255 letters, digits, dots, hyphens, underscores and colons"),
        # A parameter of the Splunk input has no flag to be called by.
        ("minimum_score", "-1", "minimum_score -1: give a whole number from 0 to 1000000"),
    ],
)  # fmt: skip
def test_refused_values(name: str, value: object, text: str) -> None:
    """A bad value is refused by the setting, the value and the fix."""
    assert refusal(**{name: value}) == text


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({"read": "x"}, True),
        ({"interface": "lo"}, True),
        ({"server": "192.0.2.1"}, True),
        ({}, False),
        ({"read": "x", "interface": "lo"}, False),
        ({"client": "192.0.2.1"}, False),
    ],
)
def test_sources(values: dict[str, object], fits: bool) -> None:
    """There is something to read from, and not both a file and an interface."""
    settings = read_settings(values)
    if fits:
        check_sources(settings)
    else:
        with pytest.raises(ConfigError, match=r"^You must "):
            check_sources(settings)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"display": True}, ""),
        ({"write": "csv"}, ""),
        ({"client": "192.0.2.1"}, ""),
        ({"syslog": "192.0.2.1"}, ""),
        ({"json": "-"}, ""),
        ({"json": "x.json", "display": True}, ""),
        ({}, "You must either turn on query display"),
        ({"filename": "x"}, "You must either turn on query display"),
        ({"client": "192.0.2.1", "server": "192.0.2.2"}, "Program cannot be run as a client and"),
        ({"json": "-", "display": True}, "Query display (-d) and JSON lines (--json) cannot share"),
    ],
)
def test_sinks(values: dict[str, object], text: str) -> None:
    """There is something to do, and nothing that excludes itself."""
    settings = read_settings(values)
    if not text:
        check_sinks(settings)
    else:
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
            check_sinks(settings)


def test_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host is called, its name can be a field of a line."""
    for name, expected in {
        "roonet": "roonet",
        "böser host,1": "b-ser-host-1",
        "": "localhost",
    }.items():
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        assert own_name() == expected
        assert read_settings({"name": own_name()}).name == expected


def _readme() -> str:
    """Return the README's text."""
    path: Path = ROOT / "README.md"
    return path.read_text("utf-8")


def test_readme_names_no_other_option() -> None:
    """Every option that the README gives to `dnsqmon` itself is in the table."""
    known = {flag for row in table().values() for flag in row.flags}
    known |= {"-h", "--help", "--config", "--version"}
    commands = re.findall(r"^(?:.*\| *)?(?:sudo )?dnsqmon (-.*)$", _readme(), re.MULTILINE)
    assert commands
    for command in commands:
        own = command.partition("|")[0].partition("#")[0]
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", f" {own}")) <= known, command


def test_readme_table_of_options() -> None:
    """The README's table of options is this table, row by row."""
    _, found, rest = _readme().partition("\n| option |")
    assert found
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    assert lines == [
        "| `{}` | {} |".format(usage(row.flags, row.metavar).replace("|", "\\|"), row.help)
        for row in table().values()
        if row.flags
    ]
