"""The modular input, as splunkd runs it: the built app, Splunk's Pythons, XML in and out."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

import pytest

import craft
import staged
from dnsqmon.config.settings import Settings, table
from dnsqmon.splunk.stanza import parameter
from needs import ROOT, missing, need, need_root
from receivers import free_ports, is_asleep, wait_until
from splunk_search_time import App, read_conf
from udp_ports import is_bound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from namespaces import Namespace

DEMO = ROOT / "tests/data/demo.pcap"
#: Settings of inputs.conf that are Splunk's, not the input's.
SPLUNKS = {
    "interval", "index", "sourcetype", "disabled", "python.version", "python.required",
    "start_by_shell",
}  # fmt: skip
SETTINGS = {parameter(name): name for name, row in table().items() if row.splunk}


class Events(NamedTuple):
    """What splunkd reads off the stream: attributes and text of each event."""

    records: list[dict[str, str]]
    statistics: list[dict[str, Any]]


class Input:
    """The built app's modular input under one Python, with a folder for checkpoints."""

    def __init__(self, app: Path, python: str, folder: Path) -> None:
        self.app = app
        self.folder = folder
        self.command = [python, "-B", "-E", "-s", "-S", str(app / "bin/dns_query_monitor.py")]

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run to the end with this text on standard input."""
        return subprocess.run(
            [*self.command, *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment(),
        )

    def environment(self) -> dict[str, str]:
        """Return what splunkd sets, in a locale that knows ASCII only."""
        return {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "SPLUNK_HOME": str(self.folder)}

    @contextlib.contextmanager
    def started(self, given: str, *before: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start with this text on standard input, which is then closed, as splunkd does."""
        process = subprocess.Popen(
            [*before, *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
        )
        try:
            pipe(process.stdin).write(given.encode())
            pipe(process.stdin).close()
            yield process
        finally:
            process.kill()
            process.wait()
            pipe(process.stdout).close()
            pipe(process.stderr).close()

    def xml(self, *inputs: Mapping[str, str]) -> str:
        """Write what splunkd gives a running input: one stanza for each set of parameters."""
        stanzas = "".join(
            f"<stanza name={quoteattr('dns_query_monitor://' + (one.get('stanza') or 'test'))} "
            f'app="TA-dnsqmon">{parameters(one)}</stanza>'
            for one in inputs
        )
        return f"<input>{self._head()}<configuration>{stanzas}</configuration></input>"

    def items(self, values: Mapping[str, str]) -> str:
        """Write what splunkd gives to validate."""
        return f'<items>{self._head()}<item name="test">{parameters(values)}</item></items>'

    def _head(self) -> str:
        return (
            "<server_host>sh1</server_host><server_uri>https://127.0.0.1:8089</server_uri>"
            f"<session_key>k</session_key><checkpoint_dir>{self.folder / 'checkpoints'}"
            "</checkpoint_dir>"
        )


def parameters(values: Mapping[str, str]) -> str:
    """Write parameters as splunkd does, its own beside the input's."""
    both = {"interval": "60", "index": "default", "python.version": "python3", **values}
    return "".join(f'<param name="{key}">{escape(value)}</param>' for key, value in both.items())


def pipe(end: IO[bytes] | None) -> IO[bytes]:
    """Return a pipe of a process that was started with it."""
    assert end is not None
    return end


def read_stream(text: str | bytes) -> Events:
    """Parse a whole stream, as splunkd would; raises where it is not well-formed."""
    events = Events([], [])
    for event in ET.fromstring(text):
        found = {child.tag: child.text or "" for child in event}
        if found.get("sourcetype") == "dnsqmon:stats":
            events.statistics.append({**json_of(found["data"]), "host": found["host"]})
        else:
            events.records.append({**found, **event.attrib})
    return events


def json_of(text: str) -> dict[str, Any]:
    """Read an object of JSON."""
    import json  # noqa: PLC0415 - beside its only use

    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(name="app", scope="module")
def _app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built and unpacked app."""
    return staged.app(tmp_path_factory.getbasetemp())


@pytest.fixture(name="modinput", params=staged.SPLUNK_PYTHONS)
def _modinput(request: pytest.FixtureRequest, app: Path, tmp_path: Path) -> Input:
    """Return the input under each of Splunk's Pythons."""
    (tmp_path / "var/log/splunk").mkdir(parents=True)
    return Input(app, staged.interpreter(request.param), tmp_path)


@pytest.fixture(name="captures")
def _captures(tmp_path: Path) -> Path:
    """Return a folder with the demo capture in it, which nobody has written to lately."""
    folder = tmp_path / "captures"
    folder.mkdir()
    add_capture(folder, "demo.pcap", DEMO.read_bytes())
    return folder


def add_capture(folder: Path, name: str, content: bytes) -> None:
    """Put a capture file there that is an hour old."""
    (folder / name).write_bytes(content)
    an_hour_ago = time.time() - 3600
    os.utime(folder / name, (an_hour_ago, an_hour_ago))


def capture_of(*names: craft.Name) -> bytes:
    """Make a capture of one query for each name, a second apart."""
    return craft.pcap(
        [
            (
                craft.TIME + number * 1_000_000_000,
                craft.ethernet(
                    craft.ipv4(
                        "192.0.2.1",
                        "192.0.2.53",
                        craft.UDP,
                        craft.udp(4000, 53, craft.dns_query(name)),
                    )
                ),
            )
            for number, name in enumerate(names)
        ],
        nano=True,
    )


# The scheme


def test_scheme_is_the_table_of_settings(modinput: Input) -> None:
    """`--scheme` gives each Splunk setting as a parameter with its type and its help."""
    result = modinput.run("--scheme")
    assert (result.returncode, result.stderr) == (0, "")
    scheme = ET.fromstring(result.stdout)
    assert scheme.findtext("use_external_validation") == "true"
    assert scheme.findtext("use_single_instance") == "false"
    assert scheme.findtext("streaming_mode") == "xml"
    rows, defaults = table(), Settings()
    arguments = {str(one.get("name")): one for one in scheme.iter("arg")}
    assert arguments.keys() == SETTINGS.keys()
    for name, argument in arguments.items():
        default = getattr(defaults, SETTINGS[name])
        kind = (
            "boolean" if isinstance(default, bool)
            else "number" if isinstance(default, int) else "string"
        )  # fmt: skip
        assert argument.findtext("data_type") == kind
        row = rows[SETTINGS[name]]
        assert argument.findtext("description") == (row.splunk_help or row.help)
        assert argument.findtext("required_on_create") == "false"


def test_descriptions_speak_of_parameters() -> None:
    """No main parameter is described by options and streams that only a command line has."""
    for name in ("interface", "read", "server"):
        text = table()[name].splunk_help
        assert re.fullmatch(r"[A-Z].*\.", text)
        assert not re.search(r"(^|\s)-|standard input|more than once", text)


def test_parameter_names_are_legal() -> None:
    """No parameter has a name that Splunk refuses or has taken."""
    taken = SPLUNKS | {"name", "host", "source"}
    assert [name for name in SETTINGS if not re.fullmatch(r"[0-9A-Za-z][\w-]*", name)] == []
    assert taken & SETTINGS.keys() == set()


def _spec_defaults() -> dict[str, str]:
    """Read each setting of inputs.conf.spec with the default that it states."""
    text = (ROOT / "package/app/README/inputs.conf.spec").read_text("utf-8")
    found = re.findall(r"^([\w.]+) = <[^>]+>\n((?:[*] .*\n|  .*\n)+)", text, re.MULTILINE)
    return {name: body.split("* Default: ")[1].strip() for name, body in found}


def test_spec_is_the_table_of_settings() -> None:
    """inputs.conf.spec describes the parameters of the table, no more and no fewer."""
    assert _spec_defaults().keys() - SPLUNKS == SETTINGS.keys()


def test_spec_states_the_defaults() -> None:
    """Its defaults are those of inputs.conf, and those of the table where that is silent."""
    conf = read_conf(ROOT / "default/inputs.conf")["dns_query_monitor"]
    assert conf.keys() - SPLUNKS <= SETTINGS.keys()
    for name, stated in _spec_defaults().items():
        if name in conf:
            assert conf[name] == stated
        if name in SPLUNKS or name.endswith("list") or name == "node_name":
            continue
        default = getattr(Settings(), SETTINGS[name])
        if stated == "empty":
            assert default in (None, ())
        elif isinstance(default, bool):
            assert stated == str(default).lower()
        elif name == "types":
            assert stated == "A,AAAA,PTR"
            assert default == (1, 28, 12)
        else:
            assert stated == ",".join(
                map(str, default if isinstance(default, tuple) else [default])
            )


# Validation


def test_valid_parameters_pass_in_silence(modinput: Input, captures: Path) -> None:
    """A folder, a file and a relay are accepted, with every parameter spelt out."""
    full = {
        "types": "A, TXT,65", "ports": "53,5353", "profile": "weighted", "utc": "1",
        "watchlist": "dnsqmon_watchlist.csv", "serverlist": "", "minimum_score": "5",
    }  # fmt: skip
    for where in (
        {"read": str(captures)},
        {"read": str(captures / "demo.pcap")},
        {"server": "127.0.0.1", "port": "54321"},
    ):
        result = modinput.run("--validate-arguments", given=modinput.items({**full, **where}))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


REFUSALS: dict[str, tuple[dict[str, str], list[str]]] = {
    "a port": ({"ports": "0"}, ["--ports", "0"]),
    "a type": ({"types": "A,NOPE"}, ["--types", "A,NOPE"]),
    "a profile": ({"profile": "harsh"}, ["--profile", "harsh"]),
    "a list": ({"watchlist": "/nowhere/list.csv"}, ["--watchlist", "/nowhere/list.csv"]),
    "a number": ({"first_seen_max": "many"}, ["--first-seen-max", "many"]),
    "a name": ({"node_name": "a b"}, ["--name", "a b"]),
    "two sources": ({"interface": "lo"}, ["-i", "lo"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_the_sentence_of_the_command_line(modinput: Input, case: str) -> None:
    """What the command line refuses is refused in its words."""
    values, arguments = REFUSALS[case]
    given = modinput.items({"read": str(DEMO), **values})
    result = modinput.run("--validate-arguments", given=given)
    assert result.returncode == 1
    sentence = ET.fromstring(result.stdout).findtext("message") or ""
    told = subprocess.run(
        [sys.executable, "-m", "dnsqmon", "-r", str(DEMO), "-d", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
    )
    assert told.returncode == 2
    assert sentence
    assert sentence in told.stderr


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "You must specify an interface"),
        ({"read": "/nowhere/capture.pcap"}, "No such file"),
        ({"read": str(ROOT / "LICENSE")}, "is not a capture file"),
        ({"read": str(DEMO), "utc": "perhaps"}, "utc perhaps: give true or false"),
        ({"read": str(DEMO), "watchlist": "missing.csv"}, "lookups/missing.csv"),
        ({"interface": "nosuch0"}, "nosuch0"),
    ],
)
def test_other_refusals(modinput: Input, values: dict[str, str], sentence: str) -> None:
    """What only Splunk can ask for is refused with a sentence, too."""
    result = modinput.run("--validate-arguments", given=modinput.items(values))
    assert result.returncode == 1
    assert sentence in (ET.fromstring(result.stdout).findtext("message") or "")


# Streams


def test_stream_is_what_the_command_line_writes(
    modinput: Input, captures: Path, tmp_path: Path
) -> None:
    """Records are the command line's own, each with its exact time, and become fields and tags."""
    written = tmp_path / "queries.csv"
    lists = [
        word
        for kind in ("watch", "common", "server")
        for word in (f"--{kind}list", str(ROOT / f"lookups/dnsqmon_{kind}list.csv"))
    ]
    subprocess.run(
        [sys.executable, "-m", "dnsqmon", "-r", str(DEMO), "-w", "csv", "-f", str(written),
         "-n", "sensor1", "--utc", *lists],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
    )  # fmt: skip
    values = {
        "read": str(captures), "node_name": "sensor1", "utc": "true",
        **{f"{kind}list": f"dnsqmon_{kind}list.csv" for kind in ("watch", "common", "server")},
    }  # fmt: skip
    result = modinput.run(given=modinput.xml(values))
    assert (result.returncode, result.stderr) == (0, "")
    events = read_stream(result.stdout)
    expected = written.read_text().splitlines()[1:]
    assert [event["data"].split(" dnsQmon: ")[1] for event in events.records] == expected
    assert {event["stanza"] for event in events.records} == {"dns_query_monitor://test"}

    splunk = App(modinput.app)
    for event in events.records:
        (indexed,) = splunk.index(event["data"].encode(), "dnsqmon")
        fields = splunk.search(indexed)
        # The second that the line tells is the one that the stream gives exactly.
        assert int(float(fields["_time"])) == int(event["time"].partition(".")[0])
        assert fields["LogSender"] == fields["host"] == "sensor1"
        assert splunk.tags_of(fields) == {"network", "resolution", "dns"}
    hits = [event for event in events.records if ",c2.badhost.test," in event["data"]]
    (indexed,) = splunk.index(hits[0]["data"].encode(), "dnsqmon")
    assert splunk.search(indexed)["watch_category"]


def test_statistics_add_up(modinput: Input, captures: Path) -> None:
    """Statistics account for every packet, name the lists, and have the keys of props.conf."""
    add_capture(captures, "more.pcap", capture_of("www.example.com", "b.example"))
    values = {"read": str(captures), "watchlist": "dnsqmon_watchlist.csv", "minimum_score": "5"}
    result = modinput.run(given=modinput.xml(values))
    events = read_stream(result.stdout)
    (statistics,) = events.statistics
    parts = [count for key, count in statistics.items() if key.startswith(("refused_", "loss_"))]
    parts += [statistics[key] for key in ("written", "below_minimum", "already_written")]
    assert statistics["captured"] + statistics["pipelined"] == sum(parts)
    assert statistics["written"] == len(events.records)
    assert statistics["below_minimum"] > 0
    assert statistics["watchlist_name"] == "dnsqmon_watchlist.csv"
    assert statistics["watchlist_size"] == 12
    assert "commonlist_name" not in statistics
    assert statistics["host"] == statistics["sensor"]
    listed = (ROOT / "default/props.conf").read_text("utf-8").partition("\n[dnsqmon:stats]")[0]
    listed = listed[listed.rindex("# Counts are those") :]
    for key in statistics.keys() - {"host"}:
        plain = key if not key.startswith(("refused_", "loss_")) else key.partition("_")[0] + "_"
        plain = re.sub(r"^(watch)list_", "_", plain).replace("first_seen_evicted", "_evicted")
        assert plain in listed


def test_each_capture_is_read_once(modinput: Input, captures: Path) -> None:
    """A second run writes nothing of what was read, moved or not; what is new is read, settled."""
    given = modinput.xml({"read": str(captures)})
    assert len(read_stream(modinput.run(given=given).stdout).records) > 100
    shutil.move(captures / "demo.pcap", captures / "moved.pcap")
    assert read_stream(modinput.run(given=given).stdout).records == []
    add_capture(captures, "second.pcap", capture_of("one.example"))
    (captures / "young.pcap").write_bytes(capture_of("two.example"))
    again = read_stream(modinput.run(given=given).stdout)
    assert [event["data"].split(",")[8] for event in again.records] == ["one.example"]
    add_capture(captures, "young.pcap", capture_of("two.example"))
    last = read_stream(modinput.run(given=given).stdout)
    assert [event["data"].split(",")[8] for event in last.records] == ["two.example"]


def test_domains_seen_are_kept(modinput: Input, captures: Path) -> None:
    """A domain of an earlier run has no flag f in a later one."""
    given = modinput.xml({"read": str(captures)})
    add_capture(captures, "demo.pcap", capture_of("a.first.example"))
    assert read_stream(modinput.run(given=given).stdout).records[0]["data"].endswith(",6,ft")
    add_capture(captures, "next.pcap", capture_of("b.first.example"))
    assert read_stream(modinput.run(given=given).stdout).records[0]["data"].endswith(",1,t")


def test_what_is_no_capture_is_told_of_once(modinput: Input, captures: Path) -> None:
    """A stray file in the folder costs one line of the log, and the others are read."""
    add_capture(captures, "aa-notes.txt", b"no capture at all")
    given = modinput.xml({"read": str(captures)})
    first, second = modinput.run(given=given), modinput.run(given=given)
    assert first.returncode == second.returncode == 0
    assert first.stderr.count("is not a capture file") == 1
    assert len(read_stream(first.stdout).records) > 100
    assert second.stderr == ""


def test_a_wrong_parameter_leaves_captures_unread(modinput: Input, captures: Path) -> None:
    """A list or a profile that that cannot be used ends the input; the captures wait."""
    for name in ("watchlist", "profile"):
        refused = modinput.run(given=modinput.xml({"read": str(captures), name: "/no/such"}))
        assert refused.returncode == 1
        assert "/no/such" in refused.stderr
    result = modinput.run(given=modinput.xml({"read": str(captures)}))
    assert len(read_stream(result.stdout).records) > 100


def test_a_capture_that_grew_is_read_on(modinput: Input, captures: Path) -> None:
    """Of a file that was longer at the next look, only the new records are written."""
    whole = capture_of("one.example", "two.example", "three.example")
    add_capture(captures, "demo.pcap", whole[: len(capture_of("one.example", "two.example"))])
    given = modinput.xml({"read": str(captures)})
    first = read_stream(modinput.run(given=given).stdout)
    add_capture(captures, "demo.pcap", whole)
    second = read_stream(modinput.run(given=given).stdout)
    assert (names_of(first), names_of(second)) == (
        ["one.example", "two.example"],
        ["three.example"],
    )


def test_an_unchanged_capture_is_not_looked_into(modinput: Input, captures: Path) -> None:
    """Path, size and time of a file that was read are enough: its content is not read again."""
    given = modinput.xml({"read": str(captures)})
    add_capture(captures, "demo.pcap", capture_of("one.example"))
    assert names_of(read_stream(modinput.run(given=given).stdout)) == ["one.example"]
    shutil.move(captures / "demo.pcap", captures / "moved.pcap")
    assert read_stream(modinput.run(given=given).stdout).records == []
    kept = (captures / "moved.pcap").stat()
    (captures / "moved.pcap").write_bytes(capture_of("two.example"))
    os.utime(captures / "moved.pcap", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert read_stream(modinput.run(given=given).stdout).records == []


def test_hostile_names_leave_the_stream_whole(modinput: Input, captures: Path) -> None:
    """Markup, control bytes, commas and 8-bit bytes in names reach Splunk escaped."""
    labels = [b"<&>\"']]>", b"\x00\x07\x1b", b"a,b c", b"\xff\xfe\xe2\x82\xac"]
    add_capture(captures, "demo.pcap", capture_of([*labels, b"example"]))
    result = modinput.run(given=modinput.xml({"read": str(captures)}))
    (event,) = read_stream(result.stdout).records
    splunk = App(modinput.app)
    (indexed,) = splunk.index(event["data"].encode(), "dnsqmon")
    query = splunk.search(indexed)["query"]
    assert query == r"<&>\034\039]]>.\000\007\027.a\044b\032c.\255\254\226\130\172.example"


def test_bare_lines_without_header(modinput: Input, captures: Path) -> None:
    """With syslog_header off an event is the CSV line alone."""
    given = modinput.xml({"read": str(captures), "syslog_header": "0", "node_name": "s1"})
    events = read_stream(modinput.run(given=given).stdout)
    assert re.match(r"\d\d/\d\d/\d{4},\d\d:\d\d:\d\d,s1,", events.records[0]["data"])


def test_inputs_run_side_by_side(modinput: Input, captures: Path, tmp_path: Path) -> None:
    """Two stanzas, in two processes or in one, do not disturb each other."""
    other = tmp_path / "other"
    other.mkdir()
    add_capture(other, "b.pcap", capture_of("b.example"))
    one, two = {"stanza": "a", "read": str(captures)}, {"stanza": "b", "read": str(other)}
    result = modinput.run(given=modinput.xml(one, two))
    events = read_stream(result.stdout)
    stanzas = [event["stanza"].partition("://")[2] for event in events.records]
    assert stanzas.count("b") == 1
    assert stanzas.count("a") > 100
    assert {event["input"].partition("://")[2] for event in events.statistics} == {"a", "b"}
    assert read_stream(modinput.run(given=modinput.xml(one)).stdout).records == []


# Ends


def long_capture(folder: Path, count: int = 30_000) -> int:
    """Put a capture there whose events do not fit in a pipe; return how many there are."""
    add_capture(folder, "demo.pcap", capture_of(*(f"n{n}.example" for n in range(count))))
    return count


def names_of(events: Events) -> list[str]:
    """Return the domains of the records."""
    return [event["data"].split(",")[8] for event in events.records]


def test_sigterm_ends_whole_and_resumes(modinput: Input, captures: Path) -> None:
    """SIGTERM inside a capture closes the stream; the next run goes on with the next record."""
    count = long_capture(captures)
    given = modinput.xml({"read": str(captures)})
    with modinput.started(given) as process:
        # The pipe is full and the input inside the capture when its first event can be read.
        begin = pipe(process.stdout).read(100)
        process.send_signal(signal.SIGTERM)
        rest = pipe(process.stdout).read()
        assert process.wait(30) == 0
    first = read_stream(begin + rest)
    assert 0 < len(first.records) < count
    second = read_stream(modinput.run(given=given).stdout)
    assert names_of(first) + names_of(second) == [f"n{n}.example" for n in range(count)]
    assert second.statistics[-1]["already_written"] == len(first.records)


def test_resumed_under_other_types_starts_over(modinput: Input, captures: Path) -> None:
    """How many records were written counts only for the types and ports they were counted under."""
    count = long_capture(captures)
    with modinput.started(modinput.xml({"read": str(captures)})) as process:
        begin = pipe(process.stdout).read(100)
        process.send_signal(signal.SIGTERM)
        assert 0 < len(read_stream(begin + pipe(process.stdout).read()).records) < count
    given = modinput.xml({"read": str(captures), "types": "A"})
    assert len(read_stream(modinput.run(given=given).stdout).records) == count


def test_killed_inside_a_capture(modinput: Input, captures: Path) -> None:
    """After SIGKILL the next run goes on near where it was: nothing is lost, little comes twice."""
    count = long_capture(captures)
    given = modinput.xml({"read": str(captures)})
    (modinput.folder / "checkpoints").mkdir()
    with modinput.started(given) as process:
        received = b""

        def is_kept() -> bool:
            nonlocal received
            received += os.read(pipe(process.stdout).fileno(), 8192)
            return any(_records_kept(path) for path in (modinput.folder / "checkpoints").iterdir())

        wait_until(is_kept, "the place in the capture is kept")
        process.kill()
        received += pipe(process.stdout).read()
    first = re.findall(r"(n\d+\.example),[^<]*</data></event>", received.decode())
    second = read_stream(modinput.run(given=given).stdout)
    assert len(first) < count
    assert 0 < second.statistics[-1]["already_written"] <= len(first)
    assert {*first, *names_of(second)} == {f"n{number}.example" for number in range(count)}


def _records_kept(path: Path) -> int:
    """Return how far the one capture was read, of the file that remembers it."""
    if not path.name.endswith("captures.db"):
        return 0
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as database:
        (records,) = database.execute(
            "SELECT max(records) FROM captures"
            if database.execute("SELECT 1 FROM sqlite_master").fetchone()
            else "SELECT 0"
        ).fetchone()
    return int(records or 0)


def test_dead_decoder_is_survived(modinput: Input, captures: Path) -> None:
    """When the process that decodes is killed, the input says so and the next run reads on."""
    if len(os.sched_getaffinity(0)) < 2:
        missing("a second processor")
    count = long_capture(captures, 50_000)
    given = modinput.xml({"read": str(captures)})
    with modinput.started(given) as process:
        begin = pipe(process.stdout).read(100)
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        (child,) = {pid for one in threads for pid in (one / "children").read_text().split()}
        wait_until(lambda: is_asleep(child), "the decoder waits for the reader")
        os.kill(int(child), signal.SIGKILL)
        first = read_stream(begin + pipe(process.stdout).read())
        assert "the process that decodes it ended (-9); it is read on" in (
            pipe(process.stderr).read().decode()
        )
    second = read_stream(modinput.run(given=given).stdout)
    assert names_of(first) + names_of(second) == [f"n{number}.example" for number in range(count)]
    assert 0 < len(first.records) < count


def test_broken_pipe_ends_with_one_line(modinput: Input, captures: Path) -> None:
    """When splunkd goes away the input says so and ends: no traceback, no loop."""
    long_capture(captures)
    with modinput.started(modinput.xml({"read": str(captures)})) as process:
        pipe(process.stdout).read(100)
        pipe(process.stdout).close()
        complaint = pipe(process.stderr).read().decode()
        assert process.wait(30) == 1
    (line,) = complaint.splitlines()
    assert line.startswith("ERROR ")
    assert "splunkd no longer reads" in line


@pytest.mark.parametrize("given", [None, "", "<input>", "<items></items>"])
def test_no_input_definition(modinput: Input, given: str | None) -> None:
    """Standard input that is closed, empty or cut off costs one line, not a traceback."""
    result = modinput.run(given=given)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR ")


def test_bad_parameters_at_start(modinput: Input) -> None:
    """A stanza written by hand that cannot run ends with its sentence, and writes no stream."""
    result = modinput.run(given=modinput.xml({"interface": "nosuch0"}))
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith('ERROR input="dns_query_monitor://test" ')
    assert "nosuch0" in line


def test_log_is_one_for_internal(modinput: Input, captures: Path) -> None:
    """The log lies where Splunk reads it into _internal, and its lines have fields and times."""
    modinput.run(given=modinput.xml({"read": str(captures)}))
    (path,) = (modinput.folder / "var/log/splunk").iterdir()
    assert path.name == "dnsqmon_test.log"
    splunk = App(modinput.app)
    events = splunk.index(path.read_bytes(), "dnsqmon:log")
    fields = [splunk.search(event) for event in events]
    assert [one["log_level"] for one in fields] == ["INFO"] * len(fields)
    assert {one["input"] for one in fields} == {"dns_query_monitor://test"}
    assert fields[0]["message"].startswith("started")
    assert fields[-1]["message"] == "ended"
    assert all(abs(float(event["_time"]) - time.time()) < 600 for event in events)


def test_each_input_has_its_own_log(modinput: Input, captures: Path) -> None:
    """Names that differ only in what a file name cannot bear do not share a log."""
    for name in ("a_b", "a.b", "a b", "a" * 300):
        modinput.run(given=modinput.xml({"stanza": name, "read": str(captures)}))
    logs = sorted(path.name for path in (modinput.folder / "var/log/splunk").iterdir())
    assert len(logs) == 4
    assert "dnsqmon_a_b.log" in logs


# Live


@pytest.mark.parametrize("engine", ["native", "scapy"])
def test_live_capture_until_sigterm(
    modinput: Input, engine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A live input writes what it sees, statistics as often as asked, and ends on SIGTERM."""
    need_root()
    need("ip")
    from namespaces import namespace  # noqa: PLC0415 - it needs Linux

    if engine == "scapy":
        app = staged.app(tmp_path_factory.getbasetemp(), with_scapy=True)
        modinput = Input(app, modinput.command[0], modinput.folder)
    with namespace() as net:
        values = {"interface": "lo", "statistics_interval": "1", "engine": engine}
        inside = ("ip", "netns", "exec", net.name)
        with modinput.started(modinput.xml(values), *inside) as process:
            frame = craft.ethernet(
                craft.ipv4("127.0.0.1", "127.0.0.2", craft.UDP,
                           craft.udp(4000, 53, craft.dns_query("live.example")))
            )  # fmt: skip
            begin = b""
            while b"live.example" not in begin:
                net.send_frames("lo", [frame])
                begin += os.read(pipe(process.stdout).fileno(), 65536)
            process.send_signal(signal.SIGTERM)
            rest = pipe(process.stdout).read()
            assert process.wait(30) == 0
            assert pipe(process.stderr).read() == b""
    events = read_stream(begin + rest)
    assert {event["data"].split(",")[8] for event in events.records} == {"live.example"}
    assert events.statistics
    assert sum(one["written"] for one in events.statistics) == len(events.records)


def test_vanished_interface_is_survived(modinput: Input) -> None:
    """An interface that goes away is told of, the input waits for it, and SIGTERM still ends it."""
    need_root()
    need("ip")
    from namespaces import namespace  # noqa: PLC0415 - it needs Linux

    with namespace() as net:
        net.ip("link add gone0 type veth peer name gone1")
        net.ip("link set gone0 up")
        inside = ("ip", "netns", "exec", net.name)
        with modinput.started(modinput.xml({"interface": "gone0"}), *inside) as process:
            log = modinput.folder / "var/log/splunk/dnsqmon_test.log"
            wait_until(lambda: log.exists() and "started" in log.read_text(), "the input started")
            wait_until(lambda: "gone0" in _packet_sockets(net), "the input captures")
            net.ip("link del gone0")
            wait_until(lambda: "gone0" in log.read_text(), "the log tells of the interface")
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            stream = pipe(process.stdout).read()
            assert process.wait(30) == 0
            complaint = pipe(process.stderr).read().decode().splitlines()
    assert len(read_stream(stream).statistics) == 1
    assert [line for line in complaint if not line.startswith(("WARN ", "ERROR "))] == []


def _packet_sockets(net: Namespace) -> str:
    """Name the interfaces that packet sockets are bound to."""
    return net.run("ss", "--packet", "--numeric").stdout


def test_relay_of_other_sensors(modinput: Input, captures: Path) -> None:
    """What a dnsqmon sends with --client becomes events of its own sensor, and is accounted for."""
    (port,) = free_ports(1)
    values = {"server": "127.0.0.1", "port": str(port), "allow": "127.0.0.0/8", "utc": "1"}
    with modinput.started(modinput.xml(values)) as process:
        log = modinput.folder / "var/log/splunk/dnsqmon_test.log"
        wait_until(lambda: log.exists() and "started" in log.read_text(), "the input has started")
        wait_until(lambda: is_bound(port), "the relay listens")
        subprocess.run(
            [sys.executable, "-m", "dnsqmon", "-r", str(captures / "demo.pcap"), "--utc",
             "--client", "127.0.0.1", "-p", str(port), "-n", "far"],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "bin")},
        )  # fmt: skip
        begin = b""
        while begin.count(b"</event>") < 100:
            begin += os.read(pipe(process.stdout).fileno(), 65536)
        process.send_signal(signal.SIGTERM)
        rest = pipe(process.stdout).read()
        assert process.wait(30) == 0
    events = read_stream(begin + rest)
    assert {event["data"].split(",")[2] for event in events.records} == {"far"}
    assert {event["data"].split(" ")[-3] for event in events.records} == {"far"}
    assert sum(one["written"] for one in events.statistics) == len(events.records)


def test_missing_right_is_one_line(modinput: Input) -> None:
    """Without CAP_NET_RAW the input says what it needs, and ends."""
    need_root()
    need("setpriv")
    result = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *modinput.command],
        input=modinput.xml({"interface": "lo"}),
        capture_output=True,
        text=True,
        check=False,
        env=modinput.environment(),
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("ERROR ")
    assert "CAP_NET_RAW" in line
