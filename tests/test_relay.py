"""The relay: the original's datagrams both ways, checked field by field, and signed."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.errors import ConfigError
from dnsqmon.relay import feed as relay
from dnsqmon.relay.feed import MOST_SENDERS, RelayServer
from dnsqmon.relay.guard import FRESH, MOST_SESSIONS, WINDOW, Guard
from dnsqmon.relay.wire import (
    SIGNED_TAG,
    Reader,
    Refusal,
    RefusedError,
    Signer,
    plain_datagram,
    read_key,
)
from dnsqmon.sinks.relay import relay_client
from dnsqmon.sinks.spool import Spool
from forwarded import SECOND, batch, records
from receivers import free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dnsqmon.core.record import Record

KEY = b"0123456789abcdef0123456789abcdef"
LINE = (
    b"01/01/2014,15:38:51,roonet,10.18.23.35,60678,10.18.22.12,53,PTR,"
    b"12.22.18.10.in-addr.arpa,arpa,in-addr.arpa,6,5,f"
)


def field(number: int, value: str) -> bytes:
    """Return the sample line with another value in one field."""
    fields = LINE.decode().split(",")
    fields[number] = value
    return ",".join(fields).encode("latin-1")


def test_reads_the_originals_sample() -> None:
    """A line of the original becomes a record of the same values."""
    assert Reader(utc=True).record(LINE) == (
        SECOND * 1_000_000_000, "roonet", "10.18.23.35", 60678, "10.18.22.12", 53, "PTR",
        "12.22.18.10.in-addr.arpa", "arpa", "in-addr.arpa", 6, 5, "f", None, None, None,
    )  # fmt: skip


def test_reads_local_time_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --utc, a line's date and time are those of the server's zone, as the sender meant."""
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        assert Reader().record(LINE)[0] == (SECOND - 3 * 3600) * 1_000_000_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        (2, "a" * 255, "a" * 255),
        (3, "2001:DB8:0::1", "2001:db8::1"),
        (4, "0", 0),
        (6, "65535", 65535),
        (7, "TYPE65280", "TYPE65280"),
        (8, "WWW.Example.COM", "www.example.com"),
        (8, r"a\044b.example", r"a\044b.example"),
        (8, "", "."),
        (9, "", "."),
        (12, "-3", -3),
        (13, "None", "None"),
        (13, "ubfldt", "ubfldt"),
    ],
)
def test_takes_every_legal_value(number: int, value: str, expected: object) -> None:
    """Values at the edges are taken; names are lower-cased, addresses in their canonical text."""
    position = {2: 1, 3: 2, 4: 3, 6: 5, 7: 6, 8: 7, 9: 8, 12: 11, 13: 12}[number]
    assert Reader(utc=True).record(field(number, value))[position] == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", Refusal.FIELD_COUNT),
        (LINE + b",x", Refusal.FIELD_COUNT),
        (LINE.rpartition(b",")[0], Refusal.FIELD_COUNT),
        (field(8, "caf\xe9.example"), Refusal.NOT_TEXT),
        (field(0, "13/01/2014"), Refusal.BAD_DATE),
        (field(0, "02/30/2014"), Refusal.BAD_DATE),
        (field(0, "1/1/2014"), Refusal.BAD_DATE),
        (field(0, "2014-01-01"), Refusal.BAD_DATE),
        (field(1, "25:00:00"), Refusal.BAD_DATE),
        (field(1, "1:00"), Refusal.BAD_TIME),
        (field(2, ""), Refusal.BAD_HOSTNAME),
        (field(2, "a b"), Refusal.BAD_HOSTNAME),
        (field(2, "a" * 256), Refusal.BAD_HOSTNAME),
        (field(2, "a\x1b[2J"), Refusal.BAD_HOSTNAME),
        (field(3, "10.18.23"), Refusal.BAD_SRCADDR),
        (field(3, "10.18.23.256"), Refusal.BAD_SRCADDR),
        (field(3, "fe80::1%eth0"), Refusal.BAD_SRCADDR),
        (field(4, "65536"), Refusal.BAD_SRCPORT),
        (field(4, "-1"), Refusal.BAD_SRCPORT),
        (field(4, "000053"), Refusal.BAD_SRCPORT),
        (field(5, "dns.example"), Refusal.BAD_DSTADDR),
        (field(6, ""), Refusal.BAD_DSTPORT),
        (field(7, "a"), Refusal.BAD_RECORDTYPE),
        (field(7, "A Record"), Refusal.BAD_RECORDTYPE),
        (field(8, "a..b"), Refusal.BAD_DOMAIN),
        (field(8, "a b"), Refusal.BAD_DOMAIN),
        (field(8, "a\nb"), Refusal.BAD_DOMAIN),
        (field(8, "a\\300b"), Refusal.BAD_DOMAIN),
        (field(8, "a\\1"), Refusal.BAD_DOMAIN),
        (field(8, "a" * 64 + ".example"), Refusal.BAD_DOMAIN),
        (field(8, ".".join(["a" * 60] * 5)), Refusal.BAD_DOMAIN),
        (field(9, "a\tb"), Refusal.BAD_TLD),
        (field(10, "\x7f"), Refusal.BAD_SLD),
        (field(11, "129"), Refusal.BAD_LEVELS),
        (field(11, "1.5"), Refusal.BAD_LEVELS),
        (field(12, "high"), Refusal.BAD_SCORE),
        (field(12, "9" * 10), Refusal.BAD_SCORE),
        (field(13, ""), Refusal.BAD_FLAGS),
        (field(13, "fu"), Refusal.BAD_FLAGS),
        (field(13, "ls"), Refusal.BAD_FLAGS),
        (field(13, "x"), Refusal.BAD_FLAGS),
        (field(13, "f\x00"), Refusal.BAD_FLAGS),
    ],
)
def test_refuses_every_illegal_value(line: bytes, reason: Refusal) -> None:
    """A field that is not what our sensor or the original writes refuses the whole datagram."""
    with pytest.raises(RefusedError) as refused:
        Reader(utc=True).record(line)
    assert refused.value.reason is reason


def test_a_line_end_is_no_part_of_the_line() -> None:
    """A datagram made by a shell's echo is read as well."""
    assert Reader(utc=True).record(LINE + b"\r\n") == Reader(utc=True).record(LINE)


def test_what_we_render_we_read() -> None:
    """Our own lines come back as the same 13 values, the time to its second."""
    reader = Reader(utc=True)
    for line, record in zip(batch(50).lines("csv"), records(50)):
        again = reader.record(line.encode())
        assert again[1:13] == record[1:13]
        assert again[0] == record[0] // 1_000_000_000 * 1_000_000_000


@pytest.fixture(name="server")
def _server() -> Iterator[RelayServer]:
    server = RelayServer("127.0.0.1", 0, utc=True)
    yield server
    server.close()


def receive(server: RelayServer, count: int) -> list[Record]:
    """Take batches until `count` records came, then stop the server and take the rest."""
    got: list[Record] = []
    seconds = 0
    for received in server.batches():
        got.extend(received.records)
        seconds += not received.records
        if len(got) >= count or seconds > 20:
            server.stop()
    return got


def send(server: RelayServer, *datagrams: bytes) -> None:
    """Send datagrams as any client could."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for datagram in datagrams:
            client.sendto(datagram, server.address)


def test_the_originals_datagrams_are_served(server: RelayServer) -> None:
    """An old sensor's datagram, tag and 14 fields, becomes a record of the new server."""
    send(server, b"dnsQmon-packet," + LINE)
    assert receive(server, 1) == [Reader(utc=True).record(LINE)]
    assert sum(server.losses().values()) == 0


def test_what_waits_at_the_end_is_taken(
    server: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel holds when the server is stopped becomes records, however many batches."""
    monkeypatch.setattr(relay, "BATCH", 10)
    send(server, *[plain_datagram(LINE)] * 95)
    server.stop()
    assert [len(batch.records) for batch in server.batches()] == [10] * 9 + [5]


def test_a_flood_does_not_put_the_end_off(
    server: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be taken in the last second is left."""
    monkeypatch.setattr(relay, "BATCH", 10)
    monkeypatch.setattr(relay, "LAST_SECONDS", 0)
    send(server, *[plain_datagram(LINE)] * 95)
    server.stop()
    assert sum(len(batch.records) for batch in server.batches()) < 95


def test_an_old_server_is_served() -> None:
    """What our client sends is the original's datagram: 15 octets of tag, then the line."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind(("127.0.0.1", 0))
        old.settimeout(20)
        sink = relay_client("127.0.0.1", old.getsockname()[1], Spool(None, 1 << 20))
        sink.write(batch(2))
        for line in batch(2).lines("csv"):
            datagram = old.recv(65535)
            assert datagram[:15] == b"dnsQmon-packet,"
            assert datagram[15:].decode() == line
        sink.close()
    assert sink.counts() == {"written": 2, "waiting": 0, "resumed": 0}


def test_bad_datagrams_are_counted_by_reason_and_sender(
    server: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A datagram that is refused leaves no record, only counts, which are told at the end."""
    caplog.set_level(logging.INFO)
    send(
        server, b"", b"<14> " + LINE, b"dnsQmon-packet," + field(4, "x"), b"dnsQmon-packet,,",
        Signer(KEY).datagram(LINE), b"dnsQmon-packet," + LINE,
    )  # fmt: skip
    assert len(receive(server, 1)) == 1
    assert server.refused() == {
        ("127.0.0.1", "no_tag"): 2,
        ("127.0.0.1", "bad_srcport"): 1,
        ("127.0.0.1", "field_count"): 1,
        ("127.0.0.1", "signed"): 1,
    }
    losses = {name: count for name, count in server.losses().items() if count}
    assert losses == {"no_tag": 2, "bad_srcport": 1, "field_count": 1, "signed": 1}
    server.close()
    assert "a datagram of 127.0.0.1 is refused: it is no datagram of dnsqmon" in caplog.text
    assert "refused 2 datagrams of 127.0.0.1: no_tag" in caplog.text


def test_only_allowed_networks_are_heard() -> None:
    """With --allow, a sender outside the networks is refused, and counted under its address."""
    server = RelayServer("127.0.0.1", 0, allow=[ipaddress.ip_network("127.0.0.2/32")], utc=True)
    send(server, plain_datagram(LINE))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.2", 0))
        client.sendto(plain_datagram(LINE), server.address)
    assert len(receive(server, 1)) == 1
    assert server.refused() == {("127.0.0.1", "not_allowed"): 1}
    server.close()


def test_ipv4_senders_on_an_ipv6_socket_keep_their_ipv4_address() -> None:
    """Listening on ::, an IPv4 sender is matched and counted by its IPv4 address."""
    server = RelayServer("::", 0, allow=[ipaddress.ip_network("127.0.0.0/8")], utc=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(plain_datagram(LINE), ("127.0.0.1", server.address[1]))
        client.sendto(b"junk", ("127.0.0.1", server.address[1]))
    assert len(receive(server, 1)) == 1
    assert server.refused() == {("127.0.0.1", "no_tag"): 1}
    server.close()


def test_the_number_of_senders_counted_one_by_one_is_bounded() -> None:
    """A flood from forged addresses fills no memory: beyond the bound they are `others`."""
    server = RelayServer("127.0.0.1", 0, allow=[ipaddress.ip_network("127.255.0.0/16")])
    count = MOST_SENDERS + 50
    for number in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
            client.sendto(b"x", server.address)
    server.stop()
    for _ in server.batches():
        pass
    refused = server.refused()
    assert refused["others", "not_allowed"] == 50
    assert sum(refused.values()) == count
    server.close()


def test_an_address_of_another_machine_is_refused() -> None:
    """Listening on an address that is not ours is a ConfigError with the fix."""
    with pytest.raises(ConfigError, match=r"--server 192\.0\.2\.1"):
        RelayServer("192.0.2.1", 0)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "signed"])
def test_client_to_server_loses_nothing(key: bytes | None) -> None:
    """20,000 records arrive whole and in order, and client and server agree on the number."""
    server = RelayServer("127.0.0.1", 0, key=key, utc=True)
    got: list[Record] = []
    thread = threading.Thread(target=lambda: got.extend(receive(server, 20_000)))
    thread.start()
    sink = relay_client("localhost", server.address[1], Spool(None, 1 << 26), key)
    for first in range(0, 20_000, 1000):
        sink.write(batch(1000, first))
    thread.join(60)
    sink.close()
    assert [record[7] for record in got] == [record[7] for record in records(20_000)]
    assert sum(server.losses().values()) == 0
    assert sink.counts() == {"written": 20_000, "waiting": 0, "resumed": 0}
    server.close()


def test_records_wait_for_a_name_that_does_not_resolve(caplog: pytest.LogCaptureFixture) -> None:
    """A destination whose name has no address costs no record while memory lasts, and is named."""
    sink = relay_client("server.invalid", 54321, Spool(None, 1 << 20))
    sink.write(batch(3))
    wait_until(lambda: "server.invalid cannot be resolved" in caplog.text, "the log says so")
    assert sink.counts()["waiting"] == 3
    with pytest.raises(Exception, match="3 records could not be sent"):
        sink.close()
    assert sink.counts() == {"written": 0, "waiting": 0, "resumed": 0, "lost_unsent": 3}


def test_refused_datagrams_are_counted() -> None:
    """When the server's machine answers that nobody listens, the client counts it."""
    (port,) = free_ports(1)
    sink = relay_client("127.0.0.1", port, Spool(None, 1 << 20))
    sink.write(batch(100))
    wait_until(lambda: not sink.counts()["waiting"], "all were sent")
    sink.close()
    counts = sink.counts()
    assert counts["lost_refused"] > 0
    assert counts["written"] + counts["lost_refused"] == 100


# --- Signed datagrams ----------------------------------------------------------------------------


class Now:
    """A clock to set."""

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self) -> float:
        """Tell the time."""
        return self.time


def refusal(guard: Guard, datagram: bytes) -> Refusal:
    """Return the reason why the guard refuses a datagram."""
    with pytest.raises(RefusedError) as refused:
        guard.open(datagram, "192.0.2.1")
    return refused.value.reason


def test_a_signed_datagram_opens_once() -> None:
    """The line comes out unchanged, and a copy of the datagram is a replay."""
    guard, signer = Guard(KEY), Signer(KEY)
    datagram = signer.datagram(LINE)
    assert datagram.startswith(SIGNED_TAG)
    assert guard.open(datagram, "192.0.2.1") == LINE
    assert refusal(guard, datagram) is Refusal.REPLAYED


def test_every_changed_octet_is_a_forgery() -> None:
    """No octet of a signed datagram can be changed, and none cut off or added."""
    guard = Guard(KEY)
    datagram = Signer(KEY).datagram(LINE)
    start = len(SIGNED_TAG)
    for position in range(start, len(datagram)):
        changed = bytearray(datagram)
        changed[position] ^= 1
        assert refusal(guard, bytes(changed)) is Refusal.BAD_SIGNATURE
        assert refusal(guard, datagram[:position]) is Refusal.BAD_SIGNATURE
    assert refusal(guard, datagram + b"x") is Refusal.BAD_SIGNATURE
    assert refusal(guard, Signer(b"f" * 32).datagram(LINE)) is Refusal.BAD_SIGNATURE


def test_old_and_future_datagrams_are_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram sent before the server started, or five minutes off its clock, is refused."""
    sent = Now(1000.0)
    monkeypatch.setattr("dnsqmon.relay.wire.time.time", sent)
    early = Signer(KEY).datagram(LINE)
    now = Now(1001.0)
    guard = Guard(KEY, now)
    assert refusal(guard, early) is Refusal.NOT_FRESH
    sent.time = 1001 + FRESH + 1
    late = Signer(KEY).datagram(LINE)
    assert refusal(guard, late) is Refusal.NOT_FRESH
    now.time = sent.time
    assert guard.open(late, "192.0.2.1") == LINE
    now.time += FRESH + 1
    assert refusal(guard, late) is Refusal.NOT_FRESH


def test_reordered_datagrams_are_taken_and_missing_ones_counted() -> None:
    """Within the window order does not matter; what never comes is counted by client."""
    guard, signer = Guard(KEY), Signer(KEY)
    datagrams = [signer.datagram(b"%d" % number) for number in range(2 * WINDOW)]
    for number in (10, 8, 9, 5):
        assert guard.open(datagrams[number], "192.0.2.1") == b"%d" % number
    assert guard.lost() == {"192.0.2.1": 2}  # 6 and 7
    assert guard.open(datagrams[6], "192.0.2.1") == b"6"
    assert guard.lost() == {"192.0.2.1": 1}
    assert guard.open(datagrams[10 + WINDOW], "192.0.2.1")
    assert refusal(guard, datagrams[10]) is Refusal.REPLAYED
    assert refusal(guard, datagrams[7]) is Refusal.REPLAYED
    assert guard.open(datagrams[11], "192.0.2.1") == b"11"
    assert guard.lost() == {"192.0.2.1": 1 + WINDOW - 2}


def test_clients_are_counted_apart_and_their_number_is_bounded() -> None:
    """Two clients on one address do not disturb each other; the oldest make room for new ones."""
    now = Now(5000.0)
    guard = Guard(KEY, now)
    sequence = [1, 4]

    def datagram(session: int, number: int) -> bytes:
        signer = Signer(KEY)
        signer._session = b"%016x" % session  # noqa: SLF001 - a session of our choice
        signer._sequence = number - 1  # noqa: SLF001
        return signer.datagram(LINE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnsqmon.relay.wire.time.time", now)
        for session in range(MOST_SESSIONS):
            guard.open(datagram(session, sequence[0]), "192.0.2.1")
        guard.open(datagram(0, sequence[1]), "192.0.2.1")
        assert refusal(guard, datagram(MOST_SESSIONS, 1)) is Refusal.TOO_MANY_CLIENTS
        assert guard.lost() == {"192.0.2.1": 2}
        now.time += 2 * FRESH + 1
        assert guard.open(datagram(MOST_SESSIONS, 1), "192.0.2.2") == LINE
        assert guard.lost()["192.0.2.1"] == 2


def test_a_server_with_a_key_refuses_what_is_not_signed(caplog: pytest.LogCaptureFixture) -> None:
    """With a --key-file the original's datagrams are refused, replays and forgeries too."""
    server = RelayServer("127.0.0.1", 0, key=KEY, utc=True)
    signer = Signer(KEY)
    first, _lost, third = (signer.datagram(LINE) for _ in range(3))
    send(server, plain_datagram(LINE), first, first, first.replace(b",53,", b",54,"), third)
    assert len(receive(server, 2)) == 2
    assert {name: count for name, count in server.losses().items() if count} == {
        "unsigned": 1,
        "replayed": 1,
        "bad_signature": 1,
        "on_the_way": 1,
    }
    assert server.lost_on_the_way() == {"127.0.0.1": 1}
    caplog.set_level(logging.INFO)
    server.close()
    assert "1 datagrams of 127.0.0.1 never came" in caplog.text


def test_reads_a_key_file(tmp_path: Path) -> None:
    """The key is the one line of the file, without the line end."""
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    assert read_key(str(path)) == KEY


@pytest.mark.parametrize(
    ("content", "mode", "match"),
    [
        (KEY, 0o644, "chmod o="),
        (b"short\n", 0o600, "32 characters"),
        (KEY + b"\n" + KEY, 0o600, "one line"),
        (None, 0, "cannot be read"),
    ],
)
def test_refuses_a_key_that_protects_nothing(
    tmp_path: Path, content: bytes | None, mode: int, match: str
) -> None:
    """A key file that is missing, short, or open to everybody is refused with the fix."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=match):
        read_key(str(path))
