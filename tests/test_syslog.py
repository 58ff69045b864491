"""Syslog: what real receivers make of our messages, and what becomes of them in every fault."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Callable

import pytest
import trustme

from dnsqmon.core.addresses import Address, syslog_address
from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.sinks.destination import Batch, Unavailable, tls_context
from dnsqmon.sinks.spool import Spool
from dnsqmon.sinks.stream import Stream, _refuse_if_closed, by_newline, by_octet_count
from dnsqmon.sinks.syslog import Messages, framing, syslog
from forwarded import SECOND, batch, names
from receivers import Rsyslog, SyslogNg, free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dnsqmon.sinks.forward import Forward

CSV = (
    "01/01/2014,15:38:51,sensor-1,192.0.2.0,1024,198.51.100.53,53,A,"
    "q0.example.com,com,example.com,3,5,f"
)


def messages(form: str = "rfc3164", severity: str = "info", facility: str = "user") -> Messages:
    """Make a renderer of messages in UTC."""
    return Messages(form, facility, severity, utc=True)


def sink(
    *addresses: str,
    form: str = "rfc3164",
    frame: Callable[[Sequence[bytes]], bytes] = by_newline,
    context: ssl.SSLContext | None = None,
    spool: Spool | None = None,
) -> Forward:
    """Make a syslog sink with a spool in memory, if none is given."""
    return syslog(
        [syslog_address(address) for address in addresses],
        messages(form),
        spool or Spool(None, 1 << 26),
        frame=frame,
        context=context or ssl.create_default_context(),
    )


# --- The messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("rfc3164", "<14>Jan  1 15:38:51 sensor-1 dnsQmon: " + CSV),
        ("rfc5424", "<14>1 2014-01-01T15:38:51.000123Z sensor-1 dnsQmon - - - " + CSV),
        ("original", "<14> " + CSV),
    ],
)
def test_formats(form: str, expected: str) -> None:
    """Each format is the line behind its header, with the record's time and sensor."""
    assert messages(form)(batch(1)) == [expected]


def test_local_time_is_that_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old header is in the zone of the line it precedes; RFC 5424's names UTC."""
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        local = Rendered(batch(1).records, Clock())
        (old,) = Messages("rfc3164", "user", "info")(local)
        (new,) = Messages("rfc5424", "user", "info")(local)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert old.startswith("<14>Jan  1 18:38:51 sensor-1 dnsQmon: 01/01/2014,18:38:51,")
    assert new.startswith("<14>1 2014-01-01T15:38:51.000123Z ")


@pytest.mark.parametrize(
    ("score", "priority"),
    [(0, 134), (9, 134), (10, 133), (34, 133), (35, 132), (49, 132), (50, 131)],
)
def test_severity_by_score(score: int, priority: int) -> None:
    """With the severity `score`, PRI is facility * 8 + a severity that grows with the score."""
    (message,) = messages(severity="score", facility="local0")(batch(1, score=score))
    assert message.startswith(f"<{priority}>Jan")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("siem", Address("udp", "siem", 514)),
        ("192.0.2.1:5514", Address("udp", "192.0.2.1", 5514)),
        ("udp://siem.example:1", Address("udp", "siem.example", 1)),
        ("tcp://siem.example", Address("tcp", "siem.example", 514)),
        ("tls://siem.example", Address("tls", "siem.example", 6514)),
        ("tls://[2001:db8::1]:99", Address("tls", "2001:db8::1", 99)),
        ("2001:db8::1", Address("udp", "2001:db8::1", 514)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    """A bare host is UDP 514, as in the original; each transport has its registered port."""
    assert syslog_address(text) == expected
    assert syslog_address(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "http://siem", "siem:0", "siem:65536", "a b", "tcp://", "[::1"]
)
def test_bad_addresses(text: str) -> None:
    """What is no address is refused with a reason."""
    with pytest.raises(ValueError, match="give "):
        syslog_address(text)


@pytest.mark.parametrize(
    ("choice", "form", "scheme", "expected"),
    [
        ("auto", "rfc3164", "tcp", by_newline),
        ("auto", "rfc5424", "tcp", by_octet_count),
        ("auto", "rfc3164", "tls", by_octet_count),
        ("newline", "rfc5424", "tls", by_newline),
        ("octet-counting", "rfc3164", "tcp", by_octet_count),
    ],
)
def test_framing(choice: str, form: str, scheme: str, expected: object) -> None:
    """The framing is what was asked for, or what the receivers of the format expect."""
    assert framing(choice, form, scheme) is expected


# --- UDP -----------------------------------------------------------------------------------------


def test_udp_never_sends_more_than_the_limit() -> None:
    """A message beyond 1,024 octets is neither sent nor cut: it is counted; the rest arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        good, long = batch(1).records[0], batch(1, 1).records[0]
        fits = 1024 - len(messages()(Rendered([good], Clock(utc=True)))[0]) + len(good[7])
        exact = (*good[:7], "a" * fits, *good[8:])
        long = (*good[:7], "a" * (fits + 1), *good[8:])
        out = sink(f"127.0.0.1:{receiver.getsockname()[1]}")
        out.write(Rendered([good, long, exact], Clock(utc=True)))
        assert len(receiver.recv(65535)) < 1024
        assert len(receiver.recv(65535)) == 1024
        out.close()
    assert out.counts() == {"written": 2, "waiting": 0, "resumed": 0, "lost_too_long": 1}


@pytest.fixture(name="rsyslog", scope="module")
def _rsyslog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    receiver = Rsyslog(tmp_path_factory.mktemp("rsyslog"))
    yield receiver
    receiver.stop()


def arrived(receiver: Rsyslog | SyslogNg, since: int, count: int) -> list[dict[str, str]]:
    """Wait for `count` messages after the first `since`."""
    wait_until(lambda: len(receiver.messages()) >= since + count, f"{count} messages arrive")
    return receiver.messages()[since:]


@pytest.mark.real
@pytest.mark.parametrize(
    ("scheme", "frame"),
    [("udp", by_newline), ("tcp", by_newline), ("tcp", by_octet_count)],
    ids=["udp", "tcp-newline", "tcp-octet-counting"],
)
@pytest.mark.parametrize("form", ["rfc3164", "rfc5424", "original"])
def test_rsyslog_reads_every_format_and_framing(
    rsyslog: Rsyslog, scheme: str, form: str, frame: Callable[[Sequence[bytes]], bytes]
) -> None:
    """An rsyslog takes 200 messages whole, with the right host, program and message."""
    since = len(rsyslog.messages())
    port = rsyslog.udp if scheme == "udp" else rsyslog.tcp
    out = sink(f"{scheme}://127.0.0.1:{port}", form=form, frame=frame)
    out.write(batch(200))
    came = arrived(rsyslog, since, 200)
    out.close()
    assert out.counts() == {"written": 200, "waiting": 0, "resumed": 0}
    assert [message["raw"] for message in came] == messages(form)(batch(200))
    if form != "original":  # which has no header to parse
        assert {message["host"] for message in came} == {"sensor-1"}
        assert {message["program"] for message in came} == {"dnsQmon"}
        assert [message["message"].strip() for message in came] == batch(200).lines("csv")
        assert {message["pri"] for message in came} == {"14"}
        assert {message["version"] for message in came} == {"1" if form == "rfc5424" else "0"}


@pytest.fixture(name="syslog_ng", scope="module")
def _syslog_ng(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[SyslogNg]:
    cache = request.config.cache
    assert cache
    receiver = SyslogNg(tmp_path_factory.mktemp("syslog-ng"), cache.mkdir("syslog-ng"))
    yield receiver
    receiver.stop()


@pytest.mark.real
@pytest.mark.parametrize(
    ("form", "scheme", "frame"),
    [
        ("rfc3164", "udp", by_newline),
        ("rfc3164", "tcp", by_newline),
        ("rfc5424", "tcp", by_octet_count),
    ],
)
def test_syslog_ng_reads_both_rfcs(
    syslog_ng: SyslogNg, form: str, scheme: str, frame: Callable[[Sequence[bytes]], bytes]
) -> None:
    """A syslog-ng finds our host, program, facility, severity, time and message."""
    since = len(syslog_ng.messages())
    port = {"rfc5424": syslog_ng.counted}.get(
        form, syslog_ng.udp if scheme == "udp" else syslog_ng.tcp
    )
    out = sink(f"{scheme}://127.0.0.1:{port}", form=form, frame=frame)
    out.write(batch(200))
    came = arrived(syslog_ng, since, 200)
    out.close()
    assert {message["host"] for message in came} == {"sensor-1"}
    assert {message["program"] for message in came} == {"dnsQmon"}
    assert {(message["facility"], message["severity"]) for message in came} == {("user", "info")}
    assert [message["message"] for message in came] == batch(200).lines("csv")
    if form == "rfc5424":
        moment = dt.datetime.fromisoformat(came[0]["time"])
        assert int(moment.timestamp()) == SECOND


# --- TLS -----------------------------------------------------------------------------------------


class Certificates:
    """A CA of our own, a server's certificate of 127.0.0.1 and localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.server = folder / "server.pem"
        self.client = folder / "client.pem"
        self.expired = folder / "expired.pem"
        self.foreign = folder / "foreign.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
        for path, certificate in (
            (self.server, authority.issue_cert("127.0.0.1", "localhost")),
            (self.client, authority.issue_cert("sensor-1.example")),
            (self.foreign, trustme.CA().issue_cert("127.0.0.1")),
            (self.expired, authority.issue_cert("127.0.0.1", not_after=past)),
        ):
            certificate.private_key_and_cert_chain_pem.write_to_path(path)

    def context(self, *, client: bool = False) -> ssl.SSLContext:
        """Make the sender's settings."""
        certificate = str(self.client) if client else None
        return tls_context(ca=str(self.ca), certificate=certificate, key=None, verify=True)


@pytest.fixture(name="certificates", scope="module")
def _certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.real
@pytest.mark.parametrize("ask_client", [False, True], ids=["ca", "client-certificate"])
def test_rsyslog_over_tls(certificates: Certificates, tmp_path: Path, ask_client: bool) -> None:
    """An rsyslog takes our messages over TLS, and with a client certificate if it wants one."""
    receiver = Rsyslog(
        tmp_path, ca=certificates.ca, certificate=certificates.server, ask_client=ask_client
    )
    address = f"tls://127.0.0.1:{receiver.tls}"
    if ask_client:
        stranger = sink(address, frame=by_octet_count, context=certificates.context())
        stranger.write(batch(10, 5000))
    out = sink(address, frame=by_octet_count, context=certificates.context(client=ask_client))
    out.write(batch(1000))
    came = arrived(receiver, 0, 1000)
    out.close()
    assert names([message["raw"] for message in came]) == [f"q{n}.example.com" for n in range(1000)]
    assert out.counts() == {"written": 1000, "waiting": 0, "resumed": 0}
    if ask_client:
        assert stranger.counts()["written"] == 0
        with pytest.raises(SinkError):
            stranger.close()
    receiver.stop()
    assert len(receiver.messages()) == 1000


@pytest.mark.parametrize(
    ("presented", "host", "words"),
    [
        ("expired", "127.0.0.1", "certificate has expired"),
        ("foreign", "127.0.0.1", "unable to get local issuer certificate"),
        ("server", "127.0.0.2", "IP address mismatch"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused_in_words(
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    presented: str,
    host: str,
    words: str,
) -> None:
    """An expired, unknown or foreign certificate gets no record, and the log says why."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(getattr(certificates, presented))
    listener = socket.create_server((host, 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError):
            server.wrap_socket(connection, server_side=True)

    thread = threading.Thread(target=serve)
    thread.start()
    out = sink(f"tls://{host}:{listener.getsockname()[1]}", context=certificates.context())
    out.write(batch(5))
    wait_until(lambda: words in caplog.text, "the log says why")
    thread.join(20)
    listener.close()
    assert out.counts()["waiting"] == 5
    with pytest.raises(SinkError, match="5 records could not be sent"):
        out.close()


@pytest.mark.parametrize("setting", ["ca", "certificate"])
def test_unreadable_tls_files_are_refused(tmp_path: Path, setting: str) -> None:
    """A PEM file that is none is a ConfigError that names the setting and the file."""
    path = tmp_path / "none.pem"
    path.write_text("nothing")
    files = {"ca": None, "certificate": None, "key": None, setting: str(path)}
    with pytest.raises(ConfigError, match=r"none\.pem: --tls-c"):
        tls_context(**files, verify=True)


# --- Faults --------------------------------------------------------------------------------------


def write_load(out: Forward, first: int, count: int, seconds: float) -> None:
    """Write batches of 200 records at an even pace."""
    for number in range(first, first + count, 200):
        out.write(batch(200, number))
        time.sleep(seconds * 200 / count)


@pytest.mark.real
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_receiver_that_dies_under_load_gets_every_record(tmp_path: Path, end: str) -> None:
    """An rsyslog is ended and started again under load: each record arrives, some twice."""
    receiver = Rsyslog(tmp_path / "rsyslog")
    spool = Spool(str(tmp_path / "spool.db"), 1 << 26)
    out = sink(f"tcp://127.0.0.1:{receiver.tcp}", spool=spool)
    write_load(out, 0, 4000, 1.0)
    getattr(receiver, end)()
    write_load(out, 4000, 4000, 0.5)
    receiver.start()
    write_load(out, 8000, 4000, 0.5)
    expected = {f"q{number}.example.com" for number in range(12_000)}
    wait_until(
        lambda: expected == set(names([one["raw"] for one in receiver.messages()])),
        "every record arrives",
    )
    out.close()
    assert out.counts() == {"written": 12_000, "waiting": 0, "resumed": 0}
    receiver.stop()


class Reader(threading.Thread):
    """A TCP receiver that reads, or does not, from one connection after another."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.reads = reads
        self.received: list[bytearray] = []
        self.start()

    def run(self) -> None:
        """Accept and read."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection:
            index = len(self.received)
            self.received.append(bytearray())
            while not self.reads:
                time.sleep(0.01)
            while data := connection.recv(65536):
                self.received[index] += data


def test_several_connections_share_the_load() -> None:
    """With several connections to one receiver, each carries a part, and nothing comes twice."""
    receiver = Reader()
    address = f"tcp://127.0.0.1:{receiver.port}"
    out = sink(address, address, address)
    wait_until(lambda: len(receiver.received) == 3, "three connections")
    for number in range(200):
        out.write(batch(100, number * 100))
        time.sleep(0.001)
    out.close()
    lines = b"".join(receiver.received).decode().split("\n")[:-1]
    assert sorted(names(lines)) == sorted(f"q{number}.example.com" for number in range(20_000))
    assert all(receiver.received)
    assert out.counts() == {"written": 20_000, "waiting": 0, "resumed": 0}
    receiver.listener.close()


def test_a_destination_that_does_not_read_slows_nothing() -> None:
    """A receiver that hangs blocks neither write nor another destination; its records wait."""
    hangs, reads = Reader(reads=False), Reader()
    slow = sink(f"tcp://127.0.0.1:{hangs.port}", spool=Spool(None, 4 << 20))
    fast = sink(f"tcp://127.0.0.1:{reads.port}")
    for number in range(300):
        for out in (slow, fast):
            out.write(batch(500, number * 500))
    wait_until(
        lambda: sum(data.count(b"\n") for data in reads.received) == 150_000,
        "the other gets its records",
    )
    fast.close()
    assert fast.counts() == {"written": 150_000, "waiting": 0, "resumed": 0}
    counts = slow.counts()
    assert counts["lost_spool_full"] > 0
    assert sum(counts.values()) == 150_000
    with pytest.raises(SinkError, match="could not be sent"):
        slow.close()
    assert sum(slow.counts().values()) == 150_000
    hangs.reads = True
    for one in (hangs, reads):
        one.listener.close()


def test_records_wait_for_a_name_that_does_not_resolve(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver whose name has no address costs no record while the spool has room."""
    out = sink("tcp://siem.invalid:514")
    out.write(batch(7))
    wait_until(lambda: "siem.invalid cannot be resolved" in caplog.text, "the log says so")
    assert out.counts()["waiting"] == 7
    with pytest.raises(SinkError, match="7 records could not be sent"):
        out.close()


def test_a_receiver_that_is_always_behind_is_settled_as_it_takes() -> None:
    """What the receiver's kernel acknowledged is settled although later lines never run dry."""
    hangs = Reader(reads=False)
    stream = Stream(Address("tcp", "127.0.0.1", hangs.port), by_newline, hold=0)
    stream.connect()
    lines = [b"x" * 999] * 20
    sent: list[Batch] = []
    settled: list[Batch] = []
    deadline = time.monotonic() + 20
    # The receiver's buffer takes a few batches; what follows stays in ours.
    while len(sent) < 12 or len(settled) == len(sent):
        assert time.monotonic() < deadline
        sent.append(Batch([], lines, 20_000))
        stream.send(sent[-1])
        if len(sent) >= 12:
            time.sleep(0.05)
            settled += [one.batch for one in stream.settled()]
    assert 0 < len(settled) < len(sent)
    assert all(one is other for one, other in zip(settled, sent))
    stream.disconnect()
    hangs.reads = True
    hangs.listener.close()


def test_closing_in_another_thread_is_no_traceback() -> None:
    """A connection that `disconnect` took away while its peer was looked at is Unavailable."""
    reads = Reader()
    stream = Stream(Address("tcp", "127.0.0.1", reads.port), by_newline)
    stream.connect()
    stream.send(Batch([], [b"x"], 1))
    connection = stream._socket  # noqa: SLF001 - as a thread holds it that was inside settled()
    assert connection is not None
    stream.disconnect()
    with pytest.raises(Unavailable, match="the connection broke"):
        _refuse_if_closed(connection)
    reads.listener.close()


def test_a_restart_sends_what_a_dead_destination_left(tmp_path: Path) -> None:
    """Records for a destination that is down are in the file, and go out after a restart."""
    (port,) = free_ports(1)
    path = str(tmp_path / "spool.db")
    out = sink(f"tcp://127.0.0.1:{port}", spool=Spool(path, 1 << 26))
    out.write(batch(1000))
    out.close()
    assert out.counts() == {"written": 0, "waiting": 1000, "resumed": 0}
    receiver = Reader()
    again = sink(f"tcp://127.0.0.1:{receiver.port}", spool=Spool(path, 1 << 26))
    again.write(batch(10, 1000))
    again.close()
    assert again.counts() == {"written": 1010, "waiting": 0, "resumed": 1000}
    lines = b"".join(receiver.received).decode().split("\n")[:-1]
    assert names(lines) == [f"q{number}.example.com" for number in range(1010)]
    receiver.listener.close()


def test_a_connection_that_the_receiver_closed_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that closes between two batches gets both: the first again on a new connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    out = sink(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    first, _ = listener.accept()
    out.write(batch(10))
    assert first.recv(65536)
    first.close()
    second, _ = listener.accept()
    out.write(batch(10, 10))
    data = b""
    second.settimeout(20)
    while data.count(b"\n") < 20:
        data += second.recv(65536)
    assert "the receiver closed the connection" in caplog.text
    assert names(data.decode().split("\n")[:-1]) == [f"q{n}.example.com" for n in range(20)]
    closing = threading.Thread(target=out.close)
    closing.start()
    assert second.recv(65536) == b""
    second.close()
    closing.join(20)
    assert out.counts() == {"written": 20, "waiting": 0, "resumed": 0}
    listener.close()
