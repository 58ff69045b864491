"""Lists: what a file may look like, what is refused and how it is said, and how it is reloaded."""

from __future__ import annotations

import csv
import logging
import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publicsuffixlist import PublicSuffixList

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.names import normalise
from dnsqmon.score.list_file import NAMED
from dnsqmon.score.lists import DomainList, Lists, ServerList
from needs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LOOKUPS = ROOT / "lookups"

HOSTS_OWN = """127.0.0.1 localhost localhost.localdomain local
255.255.255.255 broadcasthost
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
ff02::1 ip6-allnodes
0.0.0.0 0.0.0.0
0.0.0.0 LOCALHOST a.example
"""

# Text of the file, names it gives, lines that are refused.
FORMS = {
    "plain": ("a.example\nb.example\n", {"a.example", "b.example"}, []),
    "no last line end": ("a.example\nb.example", {"a.example", "b.example"}, []),
    "CRLF": ("a.example\r\nb.example\r\n", {"a.example", "b.example"}, []),
    "CR": ("a.example\rb.example\r", {"a.example", "b.example"}, []),
    "byte order mark": ("\ufeffa.example\n", {"a.example"}, []),
    "byte order mark, comment": ("\ufeff# x\na.example\n", {"a.example"}, []),
    "byte order mark, CSV": ("\ufeffdomain,x\na.example,y\n", {"a.example"}, []),
    "blank lines and space": ("\n  a.example\t\n \n", {"a.example"}, []),
    "comments": ("# x\n  # y\na.example # z\nb.example\t#z\n", {"a.example", "b.example"}, []),
    "hash inside a word is no comment": ("a#b.example\n", set(), [1]),
    "case and final dot": ("WWW.Example.\n", {"www.example"}, []),
    "the root": (".\n", {"."}, []),
    "international": ("m\u00fcnchen.example\n", {"xn--mnchen-3ya.example"}, []),
    "underscore": ("_ldap._tcp.example\n", {"_ldap._tcp.example"}, []),
    "escapes": ("a\\.b.example\nc\\044d.example\n", {"a\\046b.example", "c\\044d.example"}, []),
    "address": ("192.0.2.1\n", {"192.0.2.1"}, []),
    "hosts": (
        "0.0.0.0 a.example b.example # x\n127.0.0.1\tc.example\n::1 d.example\n",
        {"a.example", "b.example", "c.example", "d.example"},
        [],
    ),
    "hosts, the machine's own names": (HOSTS_OWN, {"a.example"}, []),
    "CSV": ("domain,category\na.example,x\nB.example,y\n", {"a.example", "b.example"}, []),
    "CSV, other order, case, quotes": (
        'category,"Domain"\n"x, y","a.example"\n"say ""z""",b.example\n',
        {"a.example", "b.example"},
        [],
    ),
    "CSV after comments": ("# x\n\ndomain\na.example\n#b.example\n", {"a.example"}, []),
    "CSV, stray quote": (
        'domain,category\na.example,"x\nb.example,y\n"c".example,\n',
        {"b.example"},
        [2, 4],
    ),
    "CSV, missing or empty field": (
        "category,domain\nx\nx,\nx,a.example\n",
        {"a.example"},
        [2, 3],
    ),
    "CSV, no such column": ("name,category\na.example,x\n", set(), [1, 2]),
    "wildcard": ("*.a.example\na*.example\nb.example\n", {"b.example"}, [1, 2]),
    "URL, port, network, filter": (
        "http://a.example/\na.example:53\na.example/x\n||a.example^\n@@b.example\n",
        set(),
        [1, 2, 3, 4, 5],
    ),
    "two words": ("a.example b.example\n", set(), [1]),
    "empty labels": ("a..example\n.example\n..\n", set(), [1, 2, 3]),
    "lengths": (
        f"{'a' * 63}.example\n{'a' * 64}.example\n{'a.' * 126}a\n{'a.' * 127}a\n",
        {f"{'a' * 63}.example", f"{'a.' * 126}a"},
        [2, 4],
    ),
    "very long": (
        "a" * 1_000_000 + "\n" + "\u00fc" * 100_000 + "\nb.example\n",
        {"b.example"},
        [1, 2],
    ),
    "NUL and control": ("a\0b.example\nc\x1b[1m.example\nd.example\n", {"d.example"}, [1, 2]),
    "empty": ("", set(), []),
}


def write(path: Path, text: str | bytes) -> str:
    """Write a list file and give its path."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(("text", "names", "refused"), FORMS.values(), ids=FORMS.keys())
def test_forms(tmp_path: Path, text: str, names: set[str], refused: list[int]) -> None:
    """Each form of file gives exactly its names, and each refused line by path and number."""
    path = write(tmp_path / "list.txt", text)

    loaded = DomainList.load(path, "watch")

    assert names == loaded.names
    assert [f"{path}:{number}" for number in refused] == [
        line.partition(": ")[0] for line in loaded.skipped
    ]
    assert len(refused) == loaded.skipped_count
    assert len(names) == loaded.count


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("*.evil.example", "wildcards are not matched, list each name"),
        ("https://evil.example/", "not a domain name but a URL, a port or an address"),
        ("192.0.2.0/24", "not a domain name but a URL or a network"),
        ("evil.example,malware", "a comma, but the first line names no such column"),
        ("evil.example;malware", "; is not part of a domain name"),
        ("evil example", "more than one word"),
        ("evil..example", "empty label"),
        (f"{'x' * 64}.example", "label of more than 63 octets"),
        ("x" * 1021, "name of more than 255 octets"),
        (b"caf\xe9.example", "not UTF-8 text, or a control character"),
        ("evil\x07.example", "not UTF-8 text, or a control character"),
    ],
)
def test_reasons_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str | bytes, reason: str
) -> None:
    """A line that cannot be read is kept and logged as path:line with its reason."""
    encoded = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "list.txt", b"# x\nok.example\n" + encoded + b"\n")

    loaded = DomainList.load(path, "watch")

    assert [f"{path}:3: {reason}"] == loaded.skipped == caplog.messages
    assert {"ok.example"} == loaded.names


def test_many_bad_lines_are_named_in_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of many unreadable lines the first 20 are named, and a last line says how many more."""
    path = write(tmp_path / "list.txt", "*.example\n" * 1000)

    loaded = DomainList.load(path, "watch")

    assert NAMED == len(loaded.skipped) == 20
    assert loaded.skipped_count == 1000
    assert [*loaded.skipped, f"{path}: 980 more skipped"] == caplog.messages


def test_names_match_as_queries_do(tmp_path: Path) -> None:
    """However a name is spelt in the list, it is stored as `normalise` gives it for a query."""
    spellings = ["A.Example", "a.example.", "\\097.example", "B\u00dcCHER.example", "\\042.example"]
    path = write(tmp_path / "list.txt", "\n".join(spellings))

    assert {normalise(name) for name in spellings} == DomainList.load(path, "watch").names


@given(data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8")))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_load(tmp_path: Path, data: bytes) -> None:
    """Whatever the file holds, it loads; every name in it is one that `normalise` leaves alone."""
    for header in (b"", b"domain,ip\n"):
        path = write(tmp_path / "list.txt", header + data)
        loaded = DomainList.load(path, "watch")
        assert all(normalise(name) == name for name in loaded.names)
        ServerList.load(path, "server")


def test_a_million_names(tmp_path: Path) -> None:
    """A million names load, and each is found."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"host{number}.example\n" for number in range(1_000_000)))

    loaded = DomainList.load(str(path), "common")

    assert loaded.count == 1_000_000
    sample = random.Random(1).sample(range(1_000_000), 1000)
    assert all(f"host{number}.example" in loaded.names for number in sample)
    assert "host1000000.example" not in loaded.names


@pytest.mark.parametrize("name", ["watch", "common", "server"])
@pytest.mark.parametrize(
    ("file", "reason"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("a\0b", "null byte")],
)
def test_a_list_that_cannot_be_opened(tmp_path: Path, name: str, file: str, reason: str) -> None:
    """A list that cannot be opened is a ConfigError that names setting, path and reason."""
    path = f"{tmp_path}/{file}"

    with pytest.raises(ConfigError) as caught:
        Lists.load(**{name: path})

    assert f"--{name}list {path}: " in str(caught.value)
    assert reason in str(caught.value)
    assert "name a file that can be read" in str(caught.value)


def test_what_is_known_of_a_list(tmp_path: Path) -> None:
    """A list knows its path, size, time of change and hash, for the statistics."""
    path = write(tmp_path / "list.txt", "abc")
    os.utime(path, ns=(0, 1_500_000_000_000_000_007))

    loaded = DomainList.load(path, "watch")

    assert (path, "watch", 3, 1_500_000_000_000_000_007, "ba7816bf8f01cfea") == (
        loaded.path, loaded.name, loaded.size, loaded.mtime_ns, loaded.sha256,
    )  # fmt: skip
    assert loaded.loaded_at > 1_500_000_000


SERVERS = """# resolvers
192.0.2.53
2001:DB8:0::53   # spelt long
198.51.100.0/25
203.0.113.7/24
2001:db8:1::/48
::ffff:192.0.2.54
::ffff:10.0.0.0/104
192.0.2.55/32
"""


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("192.0.2.53", True),
        ("192.0.2.52", False),
        ("::ffff:192.0.2.53", True),
        ("2001:db8::53", True),
        ("2001:0db8:0:0:0:0:0:53", True),
        ("2001:db8::54", False),
        ("198.51.100.127", True),
        ("198.51.100.128", False),
        ("203.0.113.250", True),
        ("2001:db8:1:ffff::1", True),
        ("2001:db8:2::1", False),
        ("192.0.2.54", True),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.55", True),
        ("", False),
        ("198.51.100.0/25", False),
        ("resolver.example", False),
    ],
)
@pytest.mark.parametrize("form", ["plain", "csv"])
def test_servers(tmp_path: Path, form: str, address: str, *, listed: bool) -> None:
    """Addresses match in any spelling, networks match what is in them, in both families."""
    text = SERVERS
    if form == "csv":
        lines = [line.split(" ")[0] for line in SERVERS.splitlines()[1:]]
        text = "name,ip\n" + "".join(f'"x, y",{line}\n' for line in lines)

    servers = ServerList.load(write(tmp_path / "list.txt", text), "server")

    assert servers.contains(address) is listed
    assert (servers.count, servers.skipped_count) == (8, 0)


def test_servers_refuse_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no address or network is reported by path and line, and skipped."""
    text = "resolver.example\n192.0.2.256\n192.0.2.0/33\n12345\nfe80::1%eth0\n192.0.2.1 x\n"
    path = write(tmp_path / "list.txt", text)

    servers = ServerList.load(path, "server")

    assert servers.count == 0
    assert [f"{path}:{number}" for number in range(1, 7)] == [
        message.partition(": ")[0] for message in caplog.messages
    ]


def test_reload_on_change(tmp_path: Path) -> None:
    """A changed file is loaded again, when a second has passed, as a new list."""
    path = tmp_path / "list.txt"
    lists = Lists.load(watch=write(path, "a.example\n"))
    before = lists.watch
    assert before is not None

    assert not lists.reload_if_changed(100.0)
    write(path, "b.example\nc.example\n")
    assert not lists.reload_if_changed(100.9)
    assert lists.watch is before

    assert lists.reload_if_changed(101.0)
    assert lists.watch is not None
    assert {"b.example", "c.example"} == lists.watch.names
    assert {"a.example"} == before.names
    assert not lists.reload_if_changed(102.0)


@pytest.mark.parametrize("what", ["time", "file"])
def test_reload_on_any_sign_of_change(tmp_path: Path, what: str) -> None:
    """A new time of change is enough, and so is another file of the same time and size."""
    path = tmp_path / "list.txt"
    lists = Lists.load(common=write(path, "a.example\n"))
    status = path.stat()
    if what == "time":
        write(path, "b.example\n")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        write(tmp_path / "new", "b.example\n")
        os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "new").replace(path)

    assert lists.reload_if_changed(0.0)
    assert lists.common is not None
    assert {"b.example"} == lists.common.names


def test_forced_reload(tmp_path: Path) -> None:
    """With `force` the lists are loaded at once, unchanged ones too."""
    lists = Lists.load(server=write(tmp_path / "list.txt", "192.0.2.1\n"))
    before = lists.server

    assert not lists.reload_if_changed(0.0)
    assert lists.reload_if_changed(0.1, force=True)

    assert lists.server is not before
    assert lists.server is not None
    assert lists.server.contains("192.0.2.1")


def test_failed_reload_keeps_the_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A list whose file is gone stays in use, with one line in the log, until the file is back."""
    path = tmp_path / "list.txt"
    lists = Lists.load(watch=write(path, "a.example\n"), common=write(tmp_path / "c", "b.example"))
    before = lists.watch
    path.unlink()

    assert [lists.reload_if_changed(now) for now in (1.0, 2.0, 3.0)] == [False] * 3
    assert lists.watch is before
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"--watchlist {path}: No such file or directory" in caplog.messages[0]
    assert "stays in use" in caplog.messages[0]

    write(path, "c.example\n")
    assert lists.reload_if_changed(4.0)
    assert lists.watch is not None
    assert {"c.example"} == lists.watch.names

    path.unlink()
    assert not lists.reload_if_changed(5.0)
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 2


def test_a_pipe_is_read_once() -> None:
    """A list that comes through a pipe loads, and is left alone afterwards, force or not."""
    reader, writer = os.pipe()
    os.write(writer, b"a.example\n")
    os.close(writer)
    try:
        lists = Lists.load(watch=f"/dev/fd/{reader}")
        assert not lists.reload_if_changed(1.0)
        assert not lists.reload_if_changed(2.0, force=True)
    finally:
        os.close(reader)

    assert lists.watch is not None
    assert lists.watch.names == {"a.example"}


def test_no_lists() -> None:
    """Without lists there is nothing to reload."""
    lists = Lists.load()

    assert (lists.watch, lists.common, lists.server) == (None, None, None)
    assert not lists.reload_if_changed(0.0, force=True)


@pytest.mark.parametrize(
    ("file", "count"),
    # 49,866 and 46,081 entries; the rest are repetitions, told apart by nothing but case.
    # storefront.vacuformstore.com., which the original can never match, loads without its dot.
    [("commondomain.txt", 49_837), ("watchdomain.txt", 46_076)],
)
def test_lists_of_the_original(corpus: Path, file: str, count: int) -> None:
    """The original's lists load whole: as many different names as it has different entries."""
    path = corpus / "lists" / file

    loaded = DomainList.load(str(path), "common")

    entries = {line.strip().lower() for line in path.read_text().splitlines() if line[0].isalnum()}
    assert {entry.rstrip(".") for entry in entries} == loaded.names
    assert (count, 0) == (loaded.count, loaded.skipped_count)


def test_server_list_of_the_original(corpus: Path) -> None:
    """The original's server list holds one address."""
    servers = ServerList.load(str(corpus / "lists" / "serverdomain.txt"), "server")

    assert servers.contains("10.18.22.12")
    assert (servers.count, servers.skipped_count) == (1, 0)


def rows(name: str) -> list[dict[str, str]]:
    """Read a shipped lookup."""
    with (LOOKUPS / name).open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


def header(name: str) -> str:
    """Return the first line of a shipped lookup."""
    return (LOOKUPS / name).read_text(encoding="ascii").split("\n", 1)[0]


CATEGORIES = {
    "ads", "analytics", "cdn", "cloud", "communication", "education", "finance", "gaming",
    "government", "infrastructure", "news", "os_update", "reference", "retail", "search",
    "security", "social", "software", "streaming", "telecom", "travel",
}  # fmt: skip

# Public suffixes, but what the classic profile compares for every reverse look-up.
REVERSE_ZONES = {"in-addr.arpa", "ip6.arpa"}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("dnsqmon_watchlist.csv", "domain,category,source,description"),
        ("dnsqmon_commonlist.csv", "domain,category"),
    ],
)
def test_shipped_domain_lists(name: str, columns: str) -> None:
    """Shipped lists are sorted, without repetitions, and load to the last entry, as written."""
    domains = [row["domain"] for row in rows(name)]

    loaded = DomainList.load(str(LOOKUPS / name), "watch")

    assert header(name) == columns
    assert sorted(set(domains)) == domains
    assert (set(domains), 0) == (set(loaded.names), loaded.skipped_count)


def test_shipped_common_list() -> None:
    """The common list holds a thousand and more registrable domains, each in a known category."""
    listed = rows("dnsqmon_commonlist.csv")
    suffixes = PublicSuffixList(accept_unknown=False, only_icann=True)

    assert len(listed) >= 1000
    assert {row["category"] for row in listed} == CATEGORIES
    assert {
        row["domain"] for row in listed if suffixes.privatesuffix(row["domain"]) != row["domain"]
    } == REVERSE_ZONES


def test_shipped_watch_list() -> None:
    """The watch list accuses nobody: all of its names are reserved (RFC 2606), marked as demo."""
    listed = rows("dnsqmon_watchlist.csv")
    reserved = (".example", ".test", ".invalid", ".example.com", ".example.net", ".example.org")

    assert len(listed) >= 12
    assert all(row["domain"].endswith(reserved) for row in listed)
    assert {("demo", "TA-dnsqmon")} == {(row["category"], row["source"]) for row in listed}
    assert all(row["description"].startswith("Demo entry: ") for row in listed)


def test_shipped_server_list() -> None:
    """The server list is for the site to fill: it is a header and nothing else."""
    path = LOOKUPS / "dnsqmon_serverlist.csv"

    assert path.read_text() == "ip,name,description\n"
    assert ServerList.load(str(path), "server").count == 0
