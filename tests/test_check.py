"""`dnsqmon check`: what would stand in the way of a run, each with the way to mend it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trustme

from hec_server import TOKEN, HecServer
from needs import ROOT, need_root

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bin"), "DNSQMON_HEC_TOKEN": "0123456789"}
DEMO = str(ROOT / "tests" / "data" / "demo.pcap")
WATCHLIST = str(ROOT / "lookups" / "dnsqmon_watchlist.csv")


def _check(*arguments: str) -> tuple[int, list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "dnsqmon", "check", *arguments],
        env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_everything_that_a_run_needs_is_named(tmp_path: Path) -> None:
    """A line for each interface, list, file and destination, and exit code 0 when all is well."""
    need_root()
    csv = tmp_path / "queries.csv"
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        port = receiver.getsockname()[1]
        code, found, problems = _check(
            "-i", "lo", "--user", "root", "-w", "csv", "-f", str(csv), "--watchlist", WATCHLIST,
            "--metrics", "127.0.0.1:9153", "--syslog", f"tcp://127.0.0.1:{port}",
            "--client", "127.0.0.1",
        )  # fmt: skip
    assert problems == []
    assert code == 0
    assert [line.split(": ")[0] for line in found] == [
        "[+] interface lo",
        "[+] profile classic",
        f"[+] watch list {WATCHLIST}",
        f"[+] file {csv}",
        "[+] metrics",
        "[+] destination udp://127.0.0.1:54321",
        f"[+] destination tcp://127.0.0.1:{port}",
    ]
    assert not csv.exists()


PROBLEMS = {
    "interface": (("-i", "eth77"), "there is no such interface"),
    "filter": (("-i", "lo", "--filter", "udp port"), "syntax error"),
    "list": (("-i", "lo", "--commonlist", "/nowhere/list"), "/nowhere/list"),
    "profile": (("-i", "lo", "--profile", "/nowhere/profile"), "/nowhere/profile"),
    "capture": (("-r", "/nowhere/capture"), "cannot be opened"),
    "directory": (("-i", "lo", "--stats-file", "/nowhere/stats"), "no directory /nowhere"),
    "syslog": (("-i", "lo", "--syslog", "tcp://127.0.0.1:1"), "is it running"),
    "hec": (("-i", "lo", "--hec", "http://127.0.0.1:1"), "is it running"),
    "metrics": (("-i", "lo", "--metrics", "192.0.2.7:9153"), "cannot listen"),
    "server": (("--server", "192.0.2.7"), "192.0.2.7"),
    "user": (("-i", "lo", "--user", "nosuchuser"), "there is no such user"),
    "setting": (("-i", "lo", "--ring-size", "x"), "--ring-size x: give a whole number"),
}


@pytest.mark.parametrize(("arguments", "sentence"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_each_problem_is_a_line_that_says_how_to_mend_it(
    arguments: tuple[str, ...], sentence: str
) -> None:
    """What would stop a run, or stop records from arriving, ends with exit code 2."""
    need_root()
    user = () if "--user" in arguments else ("--user", "root")
    code, _, problems = _check(*arguments, *user, "-d")
    assert code == 2
    assert len(problems) == 1
    assert sentence in problems[0]


@pytest.mark.parametrize(
    ("path", "token", "sentence"),
    [
        ("", TOKEN, ""),
        ("", TOKEN[::-1], "invalid token"),
        ("/wrong", TOKEN, "HTTP 404"),
    ],
)
def test_a_collector_is_asked_whether_it_takes_the_token(
    tmp_path: Path, path: str, token: str, sentence: str
) -> None:
    """Its token is tried without an event; whatever else answers there is a finding."""
    collector = HecServer()
    (tmp_path / "token").write_text(token)
    code, _, problems = _check(
        "-r", DEMO, "-d", "--hec", collector.url + path, "--hec-token-file",
        str(tmp_path / "token"), "--user", "root",
    )  # fmt: skip
    assert code == (2 if sentence else 0), problems
    assert len(problems) == bool(sentence)
    assert sentence in "".join(problems)
    assert collector.events == []
    collector.stop()


@pytest.mark.parametrize("wanted", [False, True])
def test_a_receiver_that_wants_a_certificate_is_found_out(tmp_path: Path, wanted: bool) -> None:
    """In TLS 1.3 the refusal comes after the handshake; it is waited for."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED if wanted else ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            refused = contextlib.suppress(ssl.SSLError, ConnectionError)
            with connection, refused, server.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        code, _, problems = _check(
            "-r", DEMO, "-d", "--syslog", f"tls://127.0.0.1:{listener.getsockname()[1]}",
            "--tls-ca", str(tmp_path / "ca.pem"), "--user", "root",
        )  # fmt: skip
        thread.join(20)
    assert code == (2 if wanted else 0), problems
    assert len(problems) == wanted
    assert not wanted or "the connection broke" in problems[0]


def test_a_spool_directory_that_the_run_will_make_is_no_problem(tmp_path: Path) -> None:
    """It and its parents need not exist; a file in its place is a finding."""
    receiver = ("-r", DEMO, "--client", "127.0.0.1", "--user", "root", "--spool-dir")
    assert _check(*receiver, str(tmp_path / "a" / "b"))[0] == 0
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").write_text("")
    assert _check(*receiver, str(tmp_path / "a" / "b"))[0] == 2


def test_one_problem_does_not_hide_the_next() -> None:
    """All that can be tried is tried."""
    need_root()
    code, found, problems = _check(
        "-i", "eth77", "--user", "root", "-d", "--watchlist", "/nowhere/1",
        "--commonlist", WATCHLIST, "--serverlist", "/nowhere/2",
    )  # fmt: skip
    assert code == 2
    assert len(problems) == 3
    assert len(found) == 2
