"""`cli`: the command as a process, with real files, pipes, terminals and signals."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

import pytest

import craft
import dnsqmon
from command import ENVIRONMENT, run, start, wait_for
from dnsqmon.config.settings import Settings, table
from needs import ROOT
from seed_rows import HEADER
from small_disk import small_disk
from traffic import CLIENT, SERVER, capture, noise, query, timed

# 2014-01-01 15:38:51 UTC, the second of the original's sample.
SEED_TIME = 1_388_590_731_000_000_000
READING = "[+] Reading packets from PCAP file.\n"
SINKLESS = (
    "You must either turn on query display (-d), write to a file (-w, --json), send to syslog "
    "(--syslog), Splunk (--hec) or a dnsQmon server (--client) to proceed."
)
SOURCELESS = "You must specify an interface (-i) unless reading from a capture file (-r)."


def two(folder: Path) -> Path:
    """Write a capture of two queries and two frames of something else."""
    frames = [query("www.example.com"), noise(), query("ab.ru", qtype=28), noise()]
    return capture(folder / "two.pcap", frames)


def rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file under its one header."""
    header, *lines = path.read_text().splitlines()
    assert header == HEADER
    assert HEADER not in lines
    return [line.split(",") for line in lines]


# The original's own words


def test_screen_of_the_original(tmp_path: Path) -> None:
    """The five queries of the original's sample run give its lines, to the letter."""
    names = (
        ("12.22.18.10.in-addr.arpa", 12), ("qmontest.com.roonet.com", 1),
        ("qmontest.com.roonet.com", 28), ("qmontest.com", 1), ("qmontest.com", 28),
    )  # fmt: skip
    queries = [
        query(name, "10.18.23.35", "10.18.22.12", sport=60678 + number, qtype=qtype)
        for number, (name, qtype) in enumerate(names)
    ]
    frames = [(SEED_TIME, frame) for frame in [*queries, *[noise()] * 43]]
    path = tmp_path / "packet_test.pcap"
    path.write_bytes(craft.pcap(frames))
    assert run("-d", "-r", path, cwd=tmp_path) == (
        0,
        """\
[+] Reading packets from PCAP file.
[-] DNS Packet: 1 - 01/01/2014 15:38:51 - 10.18.23.35:60678 > 10.18.22.12:53 - PTR Record - Score: 5 Flags: f - 12.22.18.10.in-addr.arpa
[-] DNS Packet: 2 - 01/01/2014 15:38:51 - 10.18.23.35:60679 > 10.18.22.12:53 - A Record - Score: 5 Flags: f - qmontest.com.roonet.com
[-] DNS Packet: 3 - 01/01/2014 15:38:51 - 10.18.23.35:60680 > 10.18.22.12:53 - AAAA Record - Score: 0 Flags: None - qmontest.com.roonet.com
[-] DNS Packet: 4 - 01/01/2014 15:38:51 - 10.18.23.35:60681 > 10.18.22.12:53 - A Record - Score: 5 Flags: f - qmontest.com
[-] DNS Packet: 5 - 01/01/2014 15:38:51 - 10.18.23.35:60682 > 10.18.22.12:53 - AAAA Record - Score: 0 Flags: None - qmontest.com
[+] Total packets read: 48 - Inspected DNS Queries: 5 (10.4%).
""",  # noqa: E501 - the original's lines
        "",
    )


def test_file_of_the_original(tmp_path: Path) -> None:
    """The closing line names how many records went to which file, in either format."""
    path = two(tmp_path)
    for write, name in (("csv", "queries.csv"), ("sql", "queries.db")):
        closing = (
            "[+] Total packets read: 4 - Inspected DNS Queries: 2 (50.0%) - "
            f"2 new records written to {name}.\n"
        )
        assert run("-r", path, "-w", write, cwd=tmp_path) == (0, READING + closing, "")


def test_no_query(tmp_path: Path) -> None:
    """Where no query was read, there is no percentage."""
    path = capture(tmp_path / "x.pcap", [noise()])
    closing = "[+] Total packets read: 1 - Inspected DNS Queries: 0.\n"
    assert run("-r", path, "-d", cwd=tmp_path) == (0, READING + closing, "")
    empty = capture(tmp_path / "empty.pcap", [])
    closing = "[+] Total packets read: 0 - Inspected DNS Queries: 0.\n"
    assert run("-r", empty, "-d", cwd=tmp_path) == (0, READING + closing, "")


# Options


@pytest.mark.parametrize("forms", [
    ("-r", "-w", "-f", "-t", "-n", "-d"),
    ("--read", "--write", "--filename", "--time", "--name", "--display"),
])  # fmt: skip
def test_options_of_the_original(tmp_path: Path, forms: tuple[str, ...]) -> None:
    """Reading, writing, naming and displaying work by the short and by the long option."""
    read, write, filename, seconds, name, display = forms
    path = two(tmp_path)
    for entry, content in (("watch", "ab.ru"), ("common", "ab.ru"), ("server", CLIENT)):
        (tmp_path / f"{entry}.txt").write_text(f"{content}\n")
    lists = [
        "--watchlist", "watch.txt", "--commonlist", "common.txt", "--serverlist", "server.txt",
    ]  # fmt: skip
    code, out, error = run(
        read, path, write, "csv", filename, "x.csv", seconds, "30", name, "node-7", display,
        *lists, cwd=tmp_path,
    )  # fmt: skip
    assert (code, error) == (0, "")
    assert out.count("[-] DNS Packet: ") == 2
    found = rows(tmp_path / "x.csv")
    assert [row[2] for row in found] == ["node-7", "node-7"]
    assert [row[8:] for row in found] == [
        ["www.example.com", "com", "example.com", "3", "10", "ufd"],
        ["ab.ru", "ru", "ab.ru", "2", "80", "bfsdt"],
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        # The original's refusals.
        ("-d", SOURCELESS),
        ("-r x", SINKLESS),
        ("", SINKLESS),
        ("-i lo", SINKLESS),
        ("--interface lo", SINKLESS),
        *[
            (f"{interface} lo {read} x -d",
             "You must either listen on an interface or read from a packet file; not both.")
            for interface in ("-i", "--interface")
            for read in ("-r", "--read")
        ],
        ("--client 192.0.2.1 --server 192.0.2.2 -i lo -d",
         "Program cannot be run as a client and a server."),
        # Values of each kind.
        ("-w xml", "--write xml: give csv or sql"),
        ("--write xml", "--write xml: give csv or sql"),
        ("-t 0", "--time 0: give a whole number from 1 to 86400"),
        ("--time 0", "--time 0: give a whole number from 1 to 86400"),
        ("-t 1.5", "--time 1.5: give a whole number from 1 to 86400"),
        ("-t=-1", "--time -1: give a whole number from 1 to 86400"),
        ("-p 65536", "--port 65536: give a whole number from 1 to 65535"),
        ("--port 65536", "--port 65536: give a whole number from 1 to 65535"),
        ("-n a,b",
         "--name a,b: give 1 to 255 letters, digits, dots, hyphens, underscores and colons"),
        ("--client a_b", "--client a_b: give an IP address or a host name"),
        ("--server 10.0.0.0/8", "--server 10.0.0.0/8: give an IP address or a host name"),
        ("--ports 53,dns", "--ports dns: give a whole number from 1 to 65535"),
        ("--types A,B",
         "--types B: give record types such as A, AAAA, TXT, TYPE65 or 65, or 'all'"),
        ("--types ,", "--types: give a value"),
        ("--first-seen-max 0",
         "--first-seen-max 0: give a whole number from 1 to 100000000"),
        ("--stats yaml", "--stats yaml: give text or json"),
        ("-f= --filename=", "--filename: give one value"),
        ("-r x -d --json",
         ("Query display (-d) and JSON lines (--json) cannot share standard output; "
         "give --json a file name.")),
        # Files.
        ("-r missing.pcap -d", "missing.pcap: cannot be opened: No such file or directory"),
        ("-r . -d", ".: cannot be opened: Is a directory"),
        ("-r list.txt -d",
         ("list.txt: is not a capture file: it begins with the bytes 65 78 61 6d 70 6c 65 2e; give "
         "a pcap or pcapng file, plain or compressed with gzip, bzip2 or xz")),
        ("-r empty -d",
         ("empty: is not a capture file: it is empty; give "
         "a pcap or pcapng file, plain or compressed with gzip, bzip2 or xz")),
        ("-r two.pcap -d --watchlist nowhere",
         "--watchlist nowhere: No such file or directory; name a file that can be read"),
        ("-r two.pcap -d --profile nowhere",
         "--profile nowhere: No such file or directory; name a YAML file that can be read"),
        ("-r two.pcap -d --state list.txt",
         "--state list.txt: file is not a database; name a state file of dnsqmon's or a new one"),
        ("-r two.pcap -w csv -f nowhere/x.csv",
         ("nowhere/x.csv: cannot write this file: No such file or directory; name a file in a "
         "directory that exists, is writable and has room")),
        ("-r two.pcap -w csv -f list.txt",
         f"list.txt: holds something else than the columns {HEADER}; name another file"),
        ("-r two.pcap -w csv -f /dev/full",
         ("/dev/full: cannot write: No space left on device; name a file in a directory that "
         "exists, is writable and has room")),
        ("-r two.pcap --json nowhere/x.json",
         ("nowhere/x.json: cannot write this file: No such file or directory; name a file in a "
         "directory that exists, is writable and has room")),
        ("-d --config nowhere",
         "--config nowhere: No such file or directory; name a YAML file that can be read"),
        ("--config=",
         "--config : Is a directory; name a YAML file that can be read"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, arguments: str, text: str) -> None:
    """What cannot be done as given is refused in one sentence, with exit code 2."""
    two(tmp_path)
    (tmp_path / "list.txt").write_text("example.com\n")
    (tmp_path / "empty").touch()
    code, out, error = run(*arguments.split(), cwd=tmp_path)
    assert (code, out, error) == (2, "", f"[!] ERROR: {text}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-d -r two.pcap --displya", "unrecognized arguments: --displya"),
        ("-d -r two.pcap --disp", "unrecognized arguments: --disp"),
        ("-d -r two.pcap extra", "unrecognized arguments: extra"),
        ("-d -r", "argument -r/--read: expected one argument"),
        ("--minimum-score 3", "unrecognized arguments: --minimum-score 3"),
    ],
)
def test_unknown_options(tmp_path: Path, arguments: str, text: str) -> None:
    """A misspelt, shortened or incomplete option is refused with the usage, exit code 2."""
    code, out, error = run(*arguments.split(), cwd=tmp_path)
    assert (code, out) == (2, "")
    assert error.startswith("usage: dnsqmon [-h] [-i <interface>]")
    assert error.endswith(f"dnsqmon: error: {text}\n")


def test_help(tmp_path: Path) -> None:
    """The help shows each option of the table with its value and its text."""
    code, out, error = run("--help", cwd=tmp_path)
    assert (code, error) == (0, "")
    assert run("-h", cwd=tmp_path) == (0, out, "")
    flat = re.sub(r"(?<=-)\s+(?=[a-z])", "", " ".join(out.split()))
    for row in table().values():
        for flag in row.flags:
            value = f"[{row.metavar}]" if row.bare else row.metavar
            assert (f"{flag} {value}" if row.metavar else flag) in flat
        if row.flags:
            assert re.sub(r"(?<=-)\s+(?=[a-z])", "", row.help) in flat


def test_version(tmp_path: Path) -> None:
    """`--version` gives the package's version."""
    assert run("--version", cwd=tmp_path) == (0, f"dnsqmon {dnsqmon.__version__}\n", "")


def test_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates and times are local, and with --utc UTC; JSON carries epoch time in either case."""
    path = capture(tmp_path / "x.pcap", [query("www.example.com")], SEED_TIME)
    monkeypatch.setitem(ENVIRONMENT, "TZ", "EST5EDT")
    for option, moment in (([], "01/01/2014 10:38:51"), (["--utc"], "01/01/2014 15:38:51")):
        _, out, _ = run("-r", path, "-d", *option, "--json", "x.json", cwd=tmp_path)
        assert f"[-] DNS Packet: 1 - {moment} - " in out
    lines = (tmp_path / "x.json").read_text().splitlines()
    assert [line[:29] for line in lines] == ['{"time":1388590731.000000000,'] * 2


def test_types_ports_and_profile(tmp_path: Path) -> None:
    """What is inspected and how it is scored follows --types, --ports and --profile."""
    mdns = craft.ipv4(
        CLIENT, SERVER, craft.UDP, craft.udp(5353, 5353, craft.dns_query("a.local", 255))
    )
    frames = [query("www.bbc.co.uk"), query("www.bbc.co.uk", qtype=16), craft.ethernet(mdns)]
    path = capture(tmp_path / "x.pcap", frames)
    options = ["--types", "txt,ANY", "--ports", "53,5353", "--ports", "5355"]
    code, _, _ = run("-r", path, "-w", "csv", "--profile", "weighted", *options, cwd=tmp_path)
    found = rows(tmp_path / "queries.csv")
    assert code == 0
    assert [(row[7], row[10], row[12]) for row in found] == [
        ("TXT", "bbc.co.uk", "25"), ("ANY", "a.local", "5"),
    ]  # fmt: skip


# --config


def test_config(tmp_path: Path) -> None:
    """A YAML file gives the same settings under the same names; the command line wins."""
    two(tmp_path)
    (tmp_path / "dnsqmon.yaml").write_text(
        "read: two.pcap\nwrite: csv\nfilename: x.csv\nname: from-file\ndisplay: true\n"
        "utc: false\ntypes: [A, AAAA]\nports: 53\nfirst-seen-max: 10\nstats: json\n"
    )
    code, out, error = run("--config", "dnsqmon.yaml", "-n", "from-argv", cwd=tmp_path)
    assert code == 0
    assert out.count("[-] DNS Packet") == 2
    assert json.loads(error)["records"] == 2
    assert [row[2] for row in rows(tmp_path / "x.csv")] == ["from-argv", "from-argv"]


def test_config_switches(tmp_path: Path) -> None:
    """`json: true` is --json without a file name, and `false` leaves a switch off."""
    two(tmp_path)
    (tmp_path / "x.yaml").write_text("json: true\ndisplay: false\n")
    code, out, error = run("--config", "x.yaml", "-r", "two.pcap", cwd=tmp_path)
    assert (code, error) == (0, "")
    assert [json.loads(line)["domain"] for line in out.splitlines()] == ["www.example.com", "ab.ru"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "x.yaml: the file is empty"),
        ("- a\n", "x.yaml:1: the settings must be `name: value` lines"),
        ("display: true\nreed: x\n", "x.yaml:2: unknown setting reed"),
        ("config: y.yaml\n", "x.yaml:1: unknown setting config"),
        ("minimum_score: 3\n", "x.yaml:1: unknown setting minimum_score"),
        ("utc: true\nutc: true\n", "x.yaml:2: the settings: utc stands here twice"),
        ("first-seen-max: 1\nfirst_seen_max: 2\n", "x.yaml:2: first_seen_max stands here twice"),
        ("\ndisplay: yes\n", "x.yaml:2: display must be true or false"),
        ("display:\n", "x.yaml:1: display must be true or false"),
        ("display: []\n", "x.yaml:1: display must be true or false"),
        ("write: xml\n", "x.yaml:1: --write xml: give csv or sql"),
        ("write: []\n", "x.yaml:1: --write: give one value"),
        ("write:\n", "x.yaml:1: --write: give one value"),
        ("write: [csv, sql]\n", "x.yaml:1: --write: give one value"),
        ("interface: []\n", "x.yaml:1: --interface: give a value"),
        ("ports:\n- 53\n- 0\n", "x.yaml:2: --ports 0: give a whole number from 1 to 65535"),
        ("time: 0x10\n", "x.yaml:1: --time 0x10: give a whole number from 1 to 86400"),
        ("time: {a: b}\n", "x.yaml:1: time must be one value or a list of values"),
    ],
)
def test_bad_config(tmp_path: Path, content: str, text: str) -> None:
    """Each mistake in the file is refused by path, line and reason, with exit code 2."""
    (tmp_path / "x.yaml").write_text(content)
    answer = run("--config", "x.yaml", "-r", "x", "-d", cwd=tmp_path)
    assert answer == (2, "", f"[!] ERROR: {text}\n")


# What is read


def test_cut_off_capture(tmp_path: Path) -> None:
    """A capture that ends in mid-record gives every whole record and a warning, exit code 0."""
    data = two(tmp_path).read_bytes()
    (tmp_path / "cut.pcap").write_bytes(data[:-5])
    code, out, error = run("-r", "cut.pcap", "-d", cwd=tmp_path)
    assert code == 0
    assert out.endswith("[+] Total packets read: 3 - Inspected DNS Queries: 2 (66.7%).\n")
    assert re.fullmatch(r"\[!\] WARNING: cut\.pcap: .*cut off.*\n", error)


def test_standard_input(tmp_path: Path) -> None:
    """`-r -` reads standard input, compressed or not."""
    data = two(tmp_path).read_bytes()
    for content in (data, gzip.compress(data)):
        code, out, error = run("-r", "-", "-d", cwd=tmp_path, stdin=content)
        assert (code, error) == (0, "")
        assert out.endswith("[+] Total packets read: 4 - Inspected DNS Queries: 2 (50.0%).\n")


# What is written


def test_second_run_appends(tmp_path: Path) -> None:
    """A second run appends to the CSV file and to the database, with no second header."""
    path = two(tmp_path)
    for count in (2, 4):
        assert run("-r", path, "-w", "csv", cwd=tmp_path)[0] == 0
        assert len(rows(tmp_path / "queries.csv")) == count
        assert run("-r", path, "-w", "sql", cwd=tmp_path)[0] == 0
        with sqlite3.connect(tmp_path / "queries.db") as database:
            assert database.execute("SELECT count(*) FROM Queries").fetchone() == (count,)
        database.close()


def test_json_to_standard_output(tmp_path: Path) -> None:
    """With --json standard output is JSON lines and nothing else, and standard error is silent."""
    code, out, error = run("-r", two(tmp_path), "--json", cwd=tmp_path)
    assert (code, error) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert records[1] == {
        "time": 1772438402.123456, "hostname": Settings().name, "src_addr": CLIENT,
        "src_port": 40000, "dst_addr": SERVER, "dst_port": 53, "record_type": "AAAA",
        "domain": "ab.ru", "tld": "ru", "sld": "ab.ru", "levels": 2, "score": 45, "flags": "fst",
        "transport": "udp", "transaction_id": 0x1234,
        "score_reasons": {"first_seen": 5, "short": 5, "tld": 35},
    }  # fmt: skip


def test_every_sink_gets_every_record(tmp_path: Path) -> None:
    """Screen, JSON file and CSV file hold the same records after one run."""
    frames = [query(f"n{number}.example.com") for number in range(3000)]
    path = capture(tmp_path / "x.pcap", frames)
    _, out, _ = run("-r", path, "-d", "--json", "x.json", "-w", "csv", cwd=tmp_path)
    names = [f"n{number}.example.com" for number in range(3000)]
    assert re.findall(r"^\[-\].* - (\S+)$", out, re.MULTILINE) == names
    lines = (tmp_path / "x.json").read_text().splitlines()
    assert [json.loads(line)["domain"] for line in lines] == names
    assert [row[8] for row in rows(tmp_path / "queries.csv")] == names


def test_reader_that_goes_away(tmp_path: Path) -> None:
    """`dnsqmon -d | head -1` ends quietly; what was shown is in the file too."""
    path = capture(tmp_path / "x.pcap", [query("www.example.com")] * 20000)
    process = start("-r", path, "-d", "-w", "csv", cwd=tmp_path)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().decode() == READING
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1
    assert 0 < len(rows(tmp_path / "queries.csv")) < 20000


@pytest.mark.parametrize("arguments", ["-d", "-w csv", "--json"])
def test_full_standard_output(tmp_path: Path, arguments: str) -> None:
    """Where standard output takes no more, one line says so, with exit code 1."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        code, _, error = run("-r", two(tmp_path), *arguments.split(), cwd=tmp_path, stdout=full)
    assert code == 1
    assert error == "[!] ERROR: cannot write to standard output: No space left on device\n"


def test_closed_standard_output(tmp_path: Path) -> None:
    """With standard output closed, as a daemon may have it, the file is written."""
    two(tmp_path)
    command = [sys.executable, "-m", "dnsqmon", "-r", "two.pcap", "-w", "csv"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        check=False, cwd=tmp_path, env=ENVIRONMENT, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(rows(tmp_path / "queries.csv")) == 2


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Where the directory cannot be written, one sentence says so, exit code 2."""
    path = two(tmp_path)
    with small_disk(tmp_path, 64) as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        answers = {
            what: run("-r", path, *options.split(), "-f", "x", cwd=disk)
            for what, options in (("file", "-w csv"), ("database", "-w sql"))
        }
    reason = {"file": "Read-only file system", "database": "unable to open database file"}
    for what, answer in answers.items():
        text = (
            f"x: cannot write this {what}: {reason[what]}; name a file in a directory that exists"
        )
        assert answer == (2, "", f"[!] ERROR: {text}, is writable and has room\n")


@pytest.mark.parametrize(
    ("options", "count", "kilobytes"),
    [("-w csv -f", 5000, 128), ("--json", 5000, 128), ("-w sql -f", 40_000, 3072)],
)
def test_disk_that_fills_up(tmp_path: Path, options: str, count: int, kilobytes: int) -> None:
    """A disk that is full ends the run with exit code 1; what is in the file is whole."""
    frames = [query(f"n{number}.example.com") for number in range(count)]
    path = capture(tmp_path / "x.pcap", frames)
    with small_disk(tmp_path, kilobytes) as disk:
        output = disk / "output"
        code, _, error = run("-r", path, *options.split(), output, "--stats", "json", cwd=tmp_path)
        account, complaint = error.splitlines()
        counts = json.loads(account)
        written = _names_in(output, options)
    assert code == 1
    assert re.fullmatch(rf"\[!\] ERROR: {output}: .*(No space left on device|full).*", complaint)
    assert written
    assert written == [f"n{number}.example.com" for number in range(len(written))]
    (sink,) = counts["sinks"].values()
    assert len(written) == sink["written"]
    assert sum(sink.values()) == counts["records"]


def _names_in(output: Path, options: str) -> list[str]:
    """Read the domains of an output file, every line of which must be whole."""
    if "sql" in options:
        database = sqlite3.connect(output)
        try:
            return [row[0] for row in database.execute("SELECT Domain FROM Queries ORDER BY rowid")]
        finally:
            database.close()
    if "csv" in options:
        return [row[8] for row in rows(output)]
    return [json.loads(line)["domain"] for line in output.read_text().splitlines()]


def test_state(tmp_path: Path) -> None:
    """With --state a second run does not see again for the first time; without, it does."""
    path = two(tmp_path)
    for option in (["--state", "state.db"], ["--state", "state.db"], []):
        assert run("-r", path, "-w", "csv", *option, cwd=tmp_path)[0] == 0
    flags = [row[13] for row in rows(tmp_path / "queries.csv")]
    assert flags == ["f", "fst", "None", "st", "f", "fst"]


def test_state_after_a_kill(tmp_path: Path) -> None:
    """SIGKILL costs what was seen since the last save, a minute at most, and never the file."""
    path = two(tmp_path)
    assert run("-r", path, "-d", "--state", "state.db", cwd=tmp_path)[0] == 0
    process = start(
        "-r", "-", "-d", "--state", "state.db", cwd=tmp_path, stdin=subprocess.PIPE
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    process.stdin.write(craft.pcap(timed([query("new.example.org")])))
    process.stdin.flush()
    assert process.stdout.readline().decode() == READING
    assert b"Flags: f - new.example.org" in process.stdout.readline()
    process.kill()
    process.communicate(timeout=30)
    frames = [query("www.example.com"), query("new.example.org")]
    again = capture(tmp_path / "again.pcap", frames)
    assert run("-r", again, "-w", "csv", "--state", "state.db", cwd=tmp_path)[0] == 0
    assert [row[13] for row in rows(tmp_path / "queries.csv")] == ["None", "f"]


# The account


def test_stats(tmp_path: Path) -> None:
    """--stats accounts for each packet on standard error: exactly this, for these packets."""
    answer = craft.dns_response(craft.dns_query())
    response = craft.ethernet(craft.ipv4(SERVER, CLIENT, craft.UDP, craft.udp(53, 4000, answer)))
    frames = [query("a.example"), query("b.example", qtype=16), noise(), noise(), response]
    path = capture(tmp_path / "x.pcap", frames)
    code, out, error = run("-r", path, "-w", "csv", "--stats", cwd=tmp_path)
    assert code == 0
    assert "captured" not in out
    assert (
        error
        == """\
           5  packets captured
           5  packets inspected
           1  = records
           2    + other_port: UDP or TCP, but on none of the chosen ports
           1    + response: DNS response
           1    + other_type: query for a record type that was not asked for
           1  csv: written
           1  first seen domains
           0  first seen evicted
"""
    )
    code, _, error = run("-r", path, "-w", "csv", "--stats", "json", cwd=tmp_path)
    counts = json.loads(error)
    assert (counts["packets"], counts["records"], counts["adds_up"]) == (5, 1, True)
    assert counts["refused"] == {"other_port": 2, "response": 1, "other_type": 1}
    assert counts["packets"] == counts["records"] + sum(counts["refused"].values())
    assert counts["sinks"] == {"csv": {"written": 1, "lost_write_error": 0}}


def test_stats_of_a_run_that_failed(tmp_path: Path) -> None:
    """The account is given, and adds up for each sink, when a sink ended the run."""
    path = capture(tmp_path / "x.pcap", [query("www.example.com")] * 5000)
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        code, _, error = run(
            "-r", path, "--json", "-w", "csv", "--stats", "json", cwd=tmp_path, stdout=full
        )
    assert code == 1
    counts = json.loads(next(line for line in error.splitlines() if line.startswith("{")))
    assert counts["adds_up"]
    assert 0 < counts["records"] < 5000
    for sink in ("json", "csv"):
        assert sum(counts["sinks"][sink].values()) == counts["records"]
    assert len(rows(tmp_path / "queries.csv")) == counts["records"]


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("write", ["csv", "sql"])
def test_ended_in_mid_stream(tmp_path: Path, number: signal.Signals, write: str) -> None:
    """SIGTERM and SIGINT end a run in mid-stream: all that came is written, exit code 0."""
    process = start("-r", "-", "-d", "-w", write, cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(craft.pcap(timed([query("www.example.com"), query("ab.ru")])))
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(3)]
    assert [line[:3] for line in lines] == [b"[+]", b"[-]", b"[-]"]
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, b"")
    name = {"csv": "queries.csv", "sql": "queries.db"}[write]
    assert out.decode() == (
        "[+] Total packets read: 2 - Inspected DNS Queries: 2 (100.0%) - "
        f"2 new records written to {name}.\n"
    )
    if write == "csv":
        assert len(rows(tmp_path / name)) == 2
    else:
        with sqlite3.connect(tmp_path / name) as database:
            assert database.execute("SELECT count(*) FROM Queries").fetchone() == (2,)
        database.close()


def test_ended_in_mid_file(tmp_path: Path) -> None:
    """SIGTERM in the middle of a file ends the run at a whole row; the closing line agrees."""
    frame = query("www.example.com")
    path = tmp_path / "x.pcap"
    path.write_bytes(craft.pcap([]) + craft.pcap_record(craft.TIME, frame) * 400_000)
    process = start("-r", path, "-w", "csv", "--stats", "json", cwd=tmp_path)
    written = tmp_path / "queries.csv"
    wait_for(lambda: written.exists() and written.stat().st_size > 1000, "rows")
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0
    count = len(rows(written))
    assert 0 < count < 400_000
    assert f" - {count} new records written to queries.csv.\n" in out.decode()
    assert json.loads(error)["adds_up"]


def test_interrupted_before_there_is_a_capture(tmp_path: Path) -> None:
    """Before standard input has begun, Ctrl-C ends without a traceback; SIGHUP and SIGUSR1 wait."""
    process = start("-r", "-", "-d", cwd=tmp_path, stdin=subprocess.PIPE)
    assert process.stdin
    first_bytes = craft.pcap([])[:3]
    process.stdin.write(first_bytes[:1])
    process.stdin.flush()
    wait_for(lambda: _unread(process.stdin) == 0, "the process to read its input")
    for number in (signal.SIGHUP, signal.SIGUSR1):
        process.send_signal(number)
        process.stdin.write(first_bytes[1:2] if number == signal.SIGHUP else first_bytes[2:3])
        process.stdin.flush()
        wait_for(lambda: _unread(process.stdin) == 0, "the process to read on")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 128 + signal.SIGINT


def _unread(pipe: IO[bytes] | None) -> int:
    """Count the bytes that wait in a pipe."""
    assert pipe
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("how", ["SIGHUP", "changed file"])
def test_lists_reload_while_running(tmp_path: Path, how: str) -> None:
    """A list that changed is used for the next query, on SIGHUP at once and by itself in time."""
    watch = tmp_path / "watch.txt"
    watch.write_text("other.example.com\n")
    process = start(
        "-r", "-", "-d", "--watchlist", watch, cwd=tmp_path, stdin=subprocess.PIPE
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(craft.pcap([]))

    def flags() -> bytes:
        """Send one query, and give the flags of its line."""
        assert process.stdin
        assert process.stdout
        process.stdin.write(craft.pcap_record(craft.TIME, query("www.example.com")))
        process.stdin.flush()
        line = process.stdout.readline()
        return line.partition(b"Flags: ")[2].split()[0]

    process.stdin.flush()
    assert process.stdout.readline().decode() == READING
    assert [flags(), flags()] == [b"f", b"None"]
    if how == "SIGHUP":
        process.send_signal(signal.SIGHUP)
        assert b"loaded again, 1 entries" in process.stderr.readline()
        assert flags() == b"None"
    watch.write_text("www.example.com\nother.example.com\n")
    assert b"loaded again, 2 entries" in process.stderr.readline()
    assert [flags(), flags()] == [b"b", b"b"]
    watch.unlink()
    assert b"No such file or directory" in process.stderr.readline()
    assert flags() == b"b"
    process.communicate(timeout=30)
    assert process.returncode == 0


# Terminals


def _open_terminal() -> tuple[int, int]:
    """Open a terminal of 80 columns and 24 lines; give the end that reads and the one to write."""
    terminal, other_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return terminal, other_end


def _read_terminal(terminal: int) -> bytes:
    """Read what a terminal shows until its last writer closes it."""
    shown = b""
    while select.select([terminal], [], [], 30)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    return shown


def test_status_lines_beside_json_on_a_terminal(tmp_path: Path) -> None:
    """With --json, the lines for people go to standard error where that is a terminal."""
    terminal, other_end = _open_terminal()
    with open(other_end, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        process = start("-r", two(tmp_path), "--json", cwd=tmp_path, stderr=stream)
    assert process.stdout
    assert len([json.loads(line) for line in process.stdout]) == 2
    shown = _read_terminal(terminal)
    os.close(terminal)
    process.stdout.close()
    assert process.wait(30) == 0
    assert shown.decode().replace("\r\n", "\n") == (
        READING + "[+] Total packets read: 4 - Inspected DNS Queries: 2 (50.0%).\n"
    )


def _run_with_pause(folder: Path, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Read a large file, and have the process stand still for long enough to want a bar."""
    path = folder / "x.pcap"
    path.write_bytes(
        craft.pcap([]) + craft.pcap_record(craft.TIME, query("www.example.com")) * 300_000
    )
    process = start("-r", path, "-w", "csv", cwd=folder, stderr=stderr)
    written = folder / "queries.csv"
    wait_for(lambda: written.exists() and written.stat().st_size > 1000, "rows")
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    process.send_signal(signal.SIGCONT)
    return process


def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    """A file that takes more than a second shows a bar on a terminal."""
    terminal, other_end = _open_terminal()
    with open(other_end, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        process = _run_with_pause(tmp_path, stream)
    shown = _read_terminal(terminal)
    os.close(terminal)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.search(rb"\d+%\|", shown)
    assert len(rows(tmp_path / "queries.csv")) == 300_000


def test_no_progress_bar_in_a_pipe(tmp_path: Path) -> None:
    """The same run into a pipe writes nothing to standard error."""
    process = _run_with_pause(tmp_path, subprocess.PIPE)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("-r in.pcap --json in.pcap", "in.pcap is given for two files"),
        ("-r in.pcap -d --stats-file ./in.pcap", "in.pcap is given for two files"),
        ("-r in.pcap -w csv -f x --json x", "x is given for two files"),
        ("-r in.pcap --json other.db", "holds something else than JSON lines"),
        ("-r in.pcap -r other.db -d", "--read: give one value"),
    ],
)
def test_evidence_is_not_written_to(tmp_path: Path, arguments: str, text: str) -> None:
    """A file that is read, or holds something else, is refused as a place to write."""
    shutil.copy(ROOT / "tests/data/demo.pcap", tmp_path / "in.pcap")
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0")

    code, _, error = run(*arguments.split(), cwd=tmp_path)

    assert (code, text in error) == (2, True), error
    demo = (ROOT / "tests/data/demo.pcap").read_bytes()
    assert (tmp_path / "in.pcap").read_bytes() == demo
    assert (tmp_path / "other.db").read_bytes() == b"SQLite format 3\0"


def test_account_of_a_pipe(tmp_path: Path) -> None:
    """While a pipe stays open, the account is appended, and SIGUSR1 shows it."""
    process = start(
        *["-r", "-", "-w", "csv", "-t", "1", "--stats-file", "stats"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
    )
    stats = tmp_path / "stats"
    assert process.stdin
    process.stdin.write((ROOT / "tests/data/demo.pcap").read_bytes())
    process.stdin.flush()

    wait_for(lambda: stats.exists() and '"packets": 901' in stats.read_text(), "the account")
    process.send_signal(signal.SIGUSR1)
    time.sleep(1)
    _, error = process.communicate(timeout=30)

    assert "901  packets captured" in error.decode()
    assert process.returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("arguments", ["-r in.pcap -d -w csv", "lists import hosts"])
def test_closed_streams(tmp_path: Path, closed: str, arguments: str) -> None:
    """Whichever of its streams are closed, a command does its work without a traceback."""
    shutil.copy(ROOT / "tests/data/demo.pcap", tmp_path / "in.pcap")
    (tmp_path / "hosts").write_text("0.0.0.0 ads.example\n")
    command = [sys.executable, "-m", "dnsqmon", *arguments.split()]

    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    if "-w" in arguments:
        assert len((tmp_path / "queries.csv").read_text().splitlines()) == 372


def test_import_into_a_pipe_and_a_full_device(tmp_path: Path) -> None:
    """A reader that goes away is no error worth a word; a device without room is one line."""
    (tmp_path / "hosts").write_text("".join(f"0.0.0.0 x{n}.example\n" for n in range(50_000)))
    process = start(*["lists", "import", "hosts"], cwd=tmp_path)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1

    with Path("/dev/full").open("wb") as full:
        code, _, error = run(*["lists", "import", "hosts"], cwd=tmp_path, stdout=full)
    assert code == 1
    assert "No space left" in error
    assert "Traceback" not in error


def test_switch_without_a_value_turned_off_in_the_config(tmp_path: Path) -> None:
    """`json: false` writes no file of that name."""
    shutil.copy(ROOT / "tests/data/demo.pcap", tmp_path / "in.pcap")
    (tmp_path / "config.yaml").write_text("read: in.pcap\njson: false\nstats: false\nwrite: csv\n")

    assert run("--config", "config.yaml", cwd=tmp_path)[0] == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.yaml", "in.pcap", "queries.csv",
    ]  # fmt: skip
