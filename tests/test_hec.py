"""HEC: what a strict collector takes from us, what we take from it, and every fault between."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import requests
import trustme
from splunk_hec_handler import SplunkHecHandler  # type: ignore[import-untyped]

from dnsqmon.core.addresses import HecUrl, hec_url
from dnsqmon.core.errors import SinkError
from dnsqmon.sinks import forward
from dnsqmon.sinks.forward import Forward
from dnsqmon.sinks.hec import Events, Hec, hec
from dnsqmon.sinks.hec_answer import CODES, read_answer
from dnsqmon.sinks.spool import Spool
from forwarded import batch, names
from hec_server import TEXTS, TOKEN, HecServer
from receivers import free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLD = {"source": "dnsqmon", "sourcetype": "dnsqmon"}


@pytest.fixture(name="collector")
def _collector() -> Iterator[HecServer]:
    server = HecServer()
    yield server
    server.stop()


def sink(
    *collectors: HecServer,
    token: str = TOKEN,
    endpoint: str = "event",
    index: str | None = None,
    ack: bool = False,
) -> Forward:
    """Make a HEC sink over these collectors, with a spool in memory."""
    return hec(
        [hec_url(collector.url) for collector in collectors],
        token,
        Spool(None, 1 << 26),
        context=ssl.create_default_context(),
        endpoint=endpoint,
        index=index,
        ack=ack,
        name="sensor-9",
    )


def tuned(
    collector: HecServer,
    spool: Spool,
    *,
    ack: bool = False,
    ack_timeout: float = 300,
    answer_timeout: float = 30,
) -> Forward:
    """Make a HEC sink with timeouts and a spool of a test's choice."""
    destination = Hec(
        hec_url(collector.url),
        TOKEN,
        context=ssl.create_default_context(),
        ack=ack,
        ack_timeout=ack_timeout,
        answer_timeout=answer_timeout,
    )
    return Forward("hec", Events(TOLD), spool, [destination])


def indexed(collector: HecServer) -> list[str]:
    """Return the names of the events that the collector indexed."""
    return names([event["event"] for event in collector.events])


def expected(count: int) -> list[str]:
    """Return the names that `batch` makes."""
    return [f"q{number}.example.com" for number in range(count)]


# --- The stand-in, checked with another client ---------------------------------------------------


def test_the_stand_in_serves_another_client(collector: HecServer) -> None:
    """The library splunk-hec-handler logs to the stand-in as it does to Splunk."""
    handler = SplunkHecHandler(
        "127.0.0.1", TOKEN, port=collector.server_port, proto="http", source="another"
    )
    logger = logging.Logger("another")  # noqa: LOG001 - one that nothing else shares
    logger.addHandler(handler)
    logger.warning({"query": "www.example.com"})
    logger.warning("text")
    wait_until(lambda: len(collector.events) == 2, "both events are indexed")
    assert collector.events[0]["source"] == "another"
    assert collector.events[0]["event"]["query"] == "www.example.com"


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({}, b"{}", 2),
        ({"Authorization": "Bearer x"}, b"{}", 3),
        ({"Authorization": "Splunk x"}, b"{}", 4),
        ({"Authorization": f"Splunk {TOKEN}", "X-Splunk-Request-Channel": "x"}, b"{}", 11),
        ({"Authorization": f"Splunk {TOKEN}"}, b"", 5),
        ({"Authorization": f"Splunk {TOKEN}"}, b"{", 6),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"event": "x", "odd": 1}', 6),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"event": "x", "index": "secret"}', 7),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"time": 1}', 12),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"event": ""}', 13),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"event": "x", "fields": 1}', 15),
        ({"Authorization": f"Splunk {TOKEN}"}, b'{"event": "x"}{"event": "y"}', 0),
    ],
)
def test_the_stand_in_is_strict(
    collector: HecServer, headers: dict[str, str], body: bytes, code: int
) -> None:
    """The stand-in answers with Splunk's code and status to whatever Splunk refuses."""
    url = f"{collector.url}/services/collector/event"
    response = requests.post(url, data=body, headers=headers, timeout=20)
    assert response.json()["code"] == code
    assert response.status_code == TEXTS[code][0]
    assert len(collector.events) == (2 if code == 0 else 0)


# --- What is sent --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected_url"),
    [
        ("https://splunk", HecUrl("https", "splunk", 8088, "")),
        ("https://splunk.example:443/", HecUrl("https", "splunk.example", 443, "")),
        ("http://[2001:db8::1]:80", HecUrl("http", "2001:db8::1", 80, "")),
        ("https://s/services/collector/event", HecUrl("https", "s", 8088, "")),
        ("https://s/splunk/services/collector", HecUrl("https", "s", 8088, "/splunk")),
        ("https://s/splunk", HecUrl("https", "s", 8088, "/splunk")),
    ],
)
def test_urls(text: str, expected_url: HecUrl) -> None:
    """A URL is taken with HEC's own path or without, and with what a proxy puts before it."""
    assert hec_url(text) == expected_url


@pytest.mark.parametrize(
    "text", ["splunk:8088", "ftp://s", "https://", "https://u:p@s", "https://s:0", "https://s?t=1"]
)
def test_bad_urls(text: str) -> None:
    """What is no URL of a collector, or carries a secret, is refused."""
    with pytest.raises(ValueError, match="https://host:port"):
        hec_url(text)


def test_an_event_is_the_line_with_time_and_host_told() -> None:
    """An event is the CSV line; time has every digit, host is the sensor, the index as asked."""
    (text,) = Events({**TOLD, "index": "dns"})(batch(1))
    assert '"time": 1388590731.000123456,' in text
    assert json.loads(text) == {
        "time": 1388590731.000123456,
        "host": "sensor-1",
        "source": "dnsqmon",
        "sourcetype": "dnsqmon",
        "index": "dns",
        "event": batch(1).lines("csv")[0],
    }


@pytest.mark.parametrize("ack", [False, True], ids=["no-ack", "ack"])
def test_events_arrive_in_order(ack: bool) -> None:
    """10,000 records arrive once, in order, in batches, and all are counted as written."""
    collector = HecServer(ack=ack)
    out = sink(collector, index="dns", ack=ack)
    for first in range(0, 10_000, 500):
        out.write(batch(500, first))
    wait_until(lambda: out.counts()["written"] == 10_000, "all are acknowledged")
    out.close()
    assert indexed(collector) == expected(10_000)
    assert {event["index"] for event in collector.events} == {"dns"}
    assert 5 <= collector.posts <= 20
    assert out.counts() == {"written": 10_000, "waiting": 0, "resumed": 0}
    collector.stop()


def test_the_raw_endpoint(collector: HecServer) -> None:
    """With the raw endpoint, lines are sent as they are, with source, sourcetype and host told."""
    out = sink(collector, endpoint="raw", index="dns")
    out.write(batch(100))
    wait_until(lambda: out.counts()["written"] == 100, "all are taken")
    out.close()
    assert collector.raw_lines == batch(100).lines("csv")
    told = {name: [value] for name, value in {**TOLD, "index": "dns", "host": "sensor-9"}.items()}
    assert collector.raw_queries == [told] * len(collector.raw_queries)


def test_a_record_leaves_within_a_second(collector: HecServer) -> None:
    """A single record does not wait for a batch to fill."""
    out = sink(collector)
    out.write(batch(1))
    wait_until(lambda: collector.events, "the event arrives", seconds=5)
    out.close()


def test_over_tls_with_a_ca_and_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HTTPS verifies the certificate: with its CA events arrive, without the log says why not."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    collector = HecServer(server)
    url = hec_url(collector.url)
    stranger = hec([url], TOKEN, Spool(None, 1 << 20), context=ssl.create_default_context())
    stranger.write(batch(3))
    wait_until(lambda: "the certificate is refused" in caplog.text, "the log says why")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    out = hec([url], TOKEN, Spool(None, 1 << 20), context=context)
    out.write(batch(3))
    wait_until(lambda: len(collector.events) == 3, "the events arrive")
    out.close()
    with pytest.raises(SinkError, match="3 records"):
        stranger.close()
    assert len(collector.events) == 3
    collector.stop()


# --- Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words", "twice"),
    [
        (9, "server is busy (code 9)", False),
        (26, "the queue is at capacity (code 26)", False),
        (23, "server is shutting down (code 23)", False),
        (8, "internal server error (code 8)", False),
        (4, "invalid token (code 4): compare the token", False),
        (1, "token disabled (code 1): enable the token", False),
        (7, "incorrect index (code 7): allow the token this index", False),
        ("drop", "the connection broke", False),
        ("cut", "the connection broke", True),
        ("html", "HTTP 502: no answer of HEC; is this its port and path?", False),
    ],
)
def test_after_a_fault_every_record_arrives(
    collector: HecServer,
    caplog: pytest.LogCaptureFixture,
    fault: object,
    words: str,
    twice: bool,
) -> None:
    """A refusal or a broken connection costs no record: the log says why, and they come again."""
    collector.faults.append(fault)
    out = sink(collector)
    out.write(batch(600))
    wait_until(lambda: out.counts()["written"] == 600, "all are written")
    out.close()
    assert words in caplog.text
    assert set(Counter(indexed(collector)).values()) == {2 if twice else 1}
    assert sorted(set(indexed(collector))) == sorted(expected(600))


def test_the_log_repeats_nothing_at_every_try(
    collector: HecServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures that repeat are logged once an interval, not once a try."""
    collector.faults.extend([9, 9, 9])
    out = sink(collector)
    out.write(batch(1))
    wait_until(lambda: out.counts()["written"] == 1, "it is written")
    out.close()
    assert collector.posts == 4
    assert caplog.text.count("server is busy") == 1


def test_no_secret_in_the_log(collector: HecServer, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, the token is not in the log."""
    secret = "00000000-1111-2222-3333-444444444444"
    out = sink(collector, token=secret)
    out.write(batch(1))
    wait_until(lambda: "invalid token" in caplog.text, "the log says why")
    with pytest.raises(SinkError):
        out.close()
    assert secret not in caplog.text


def test_a_collector_that_hangs_is_given_up(
    collector: HecServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A collector that does not answer is left after the timeout, and asked again."""
    collector.faults.append("hang")
    out = tuned(collector, Spool(None, 1 << 20), answer_timeout=0.3)
    out.write(batch(10))
    wait_until(lambda: out.counts()["written"] == 10, "all are written")
    out.close()
    assert "no answer within 0.3 s" in caplog.text
    assert indexed(collector) == expected(10)


def test_closing_does_not_wait_for_a_collector_that_hangs(
    collector: HecServer, tmp_path: Path
) -> None:
    """At the end, what hangs stays in the file, for the next start."""
    collector.faults.append("hang")
    path = str(tmp_path / "spool.db")
    out = tuned(collector, Spool(path, 1 << 20))
    out.write(batch(10))
    wait_until(lambda: collector.posts == 1, "the request hangs")
    out.close()
    assert out.counts() == {"written": 0, "waiting": 10, "resumed": 0}
    again = tuned(collector, Spool(path, 1 << 20))
    wait_until(lambda: again.counts()["written"] == 10, "they are sent by the next run")
    again.close()
    assert indexed(collector) == expected(10)


def test_busy_in_the_middle_resends_the_rest(collector: HecServer) -> None:
    """When a busy collector took a part, the rest follows, and at most one event comes twice."""
    collector.faults.extend([("busy", 100), ("busy", 50), ("busy", 0)])
    out = sink(collector)
    out.write(batch(400))
    wait_until(lambda: out.counts()["written"] == 400, "all are written")
    out.close()
    came = Counter(indexed(collector))
    assert sorted(came) == sorted(expected(400))
    assert sum(came.values()) - len(came) <= 3


@pytest.mark.parametrize("bad", [{0}, {199}, {1, 2, 3}, {0, 57, 100, 199}, set(range(200))])
@pytest.mark.parametrize("code", [6, 12, 13, 15])
def test_a_refused_event_takes_no_other_with_it(
    collector: HecServer, bad: set[int], code: int
) -> None:
    """Events that HEC refuses for what they hold are counted; every other arrives."""
    refused = {f"q{number}.example.com" for number in bad}
    collector.is_bad = lambda event: code if names([event["event"]])[0] in refused else 0
    out = sink(collector)
    out.write(batch(200))
    wait_until(lambda: not out.counts()["waiting"], "all are settled")
    out.close()
    assert set(indexed(collector)) == set(expected(200)) - refused
    counts = out.counts()
    assert counts["lost_refused"] == len(bad)
    assert counts["written"] == 200 - len(bad)


def test_with_ack_nothing_counts_that_was_not_acknowledged() -> None:
    """What a refused event's request held before it is sent again, for Splunk gave no number."""
    collector = HecServer(ack=True)
    collector.is_bad = lambda event: 6 if names([event["event"]]) == ["q57.example.com"] else 0
    out = sink(collector, ack=True)
    out.write(batch(200))
    wait_until(lambda: not out.counts()["waiting"], "all are settled")
    out.close()
    came = expected(200)
    assert Counter(indexed(collector)) == Counter(came[:57] * 2 + came[58:])
    assert (out.counts()["written"], out.counts()["lost_refused"]) == (199, 1)
    collector.stop()


def test_with_ack_what_a_busy_collector_took_is_sent_again() -> None:
    """The events before the one at which it became busy are not acknowledged either."""
    collector = HecServer(ack=True)
    collector.faults.append(("busy", 100))
    out = sink(collector, ack=True)
    out.write(batch(400))
    wait_until(lambda: out.counts()["written"] == 400, "all are acknowledged")
    out.close()
    came = expected(400)
    assert Counter(indexed(collector)) == Counter(came[:100] * 2 + came[100:])
    collector.stop()


def test_unacknowledged_events_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An indexer that acknowledges nothing gets no more than is kept to be sent again."""
    monkeypatch.setattr(forward, "UNSETTLED_BYTES", 200_000)
    monkeypatch.setattr(Hec, "most_bytes", 100_000)
    collector = HecServer(ack=True)
    collector.lost_acks = 1_000_000
    out = sink(collector, ack=True)
    for first in range(0, 10_000, 500):
        out.write(batch(500, first))
    wait_until(lambda: collector.posts >= 2, "some are posted")
    time.sleep(1)
    sent = sum(len(json.dumps(event)) for event in collector.events)
    assert 100_000 < sent < 350_000
    assert out.counts()["waiting"] == 10_000
    collector.lost_acks = 0
    with pytest.raises(SinkError):
        out.close()
    collector.stop()


def test_a_request_that_is_too_large_is_halved(collector: HecServer) -> None:
    """A collector with a smaller limit gets smaller requests, and every event."""
    collector.largest = 2000
    out = sink(collector)
    out.write(batch(2000))
    wait_until(lambda: out.counts()["written"] == 2000, "all are written")
    out.close()
    assert indexed(collector) == expected(2000)


def test_lost_acknowledgements_make_the_events_come_again() -> None:
    """A batch that the indexer never acknowledges is sent again on a new channel."""
    collector = HecServer(ack=True)
    collector.lost_acks = 1
    out = tuned(collector, Spool(None, 1 << 20), ack=True, ack_timeout=1.5)
    out.write(batch(100))
    wait_until(lambda: out.counts()["written"] == 100, "all are acknowledged")
    out.close()
    assert Counter(indexed(collector)) == dict.fromkeys(expected(100), 2)
    assert len(collector.acks) == 2
    collector.stop()


def test_a_token_without_acknowledgement_is_named(
    collector: HecServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Asking a token for acknowledgements that it does not give is said in words."""
    out = sink(collector, ack=True)
    out.write(batch(1))
    wait_until(lambda: "leave out --hec-ack" in caplog.text, "the log says so")
    with pytest.raises(SinkError):
        out.close()


def test_an_unhealthy_collector_gets_nothing(
    collector: HecServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A collector that says it is unhealthy is not posted to until it is well."""
    collector.unhealthy = 18
    out = sink(collector)
    out.write(batch(10))
    wait_until(lambda: "queues are full" in caplog.text, "the log says so")
    assert collector.posts == 0
    collector.unhealthy = 0
    wait_until(lambda: out.counts()["written"] == 10, "all are written")
    out.close()


def test_indexers_share_the_load_and_one_may_die() -> None:
    """Two collectors both get a part; when one goes, the other gets the rest, and all arrive."""
    first, second = HecServer(), HecServer()
    out = sink(first, second)
    for number in range(0, 20_000, 500):
        out.write(batch(500, number))
        if number == 10_000:
            wait_until(lambda: first.events and second.events, "both get a part")
            first.faults.extend([9] * 1000)
    wait_until(lambda: out.counts()["written"] == 20_000, "all are written")
    out.close()
    came = Counter(indexed(first) + indexed(second))
    assert sorted(came) == sorted(expected(20_000))
    first.stop()
    second.stop()


def test_records_for_a_collector_that_is_away_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Records for a port on which nobody listens wait, and the log says why."""
    (port,) = free_ports(1)
    url = HecUrl("http", "localhost", port, "")
    out = hec([url], TOKEN, Spool(None, 1 << 20), context=ssl.create_default_context())
    out.write(batch(10))
    wait_until(lambda: "no connection to localhost" in caplog.text, "the log says so")
    assert out.counts()["waiting"] == 10
    with pytest.raises(SinkError):
        out.close()


def test_records_wait_for_a_name_that_does_not_resolve(caplog: pytest.LogCaptureFixture) -> None:
    """A collector whose name has no address costs no record while the spool has room."""
    url = hec_url("https://splunk.invalid")
    out = hec([url], TOKEN, Spool(None, 1 << 20), context=ssl.create_default_context())
    out.write(batch(7))
    wait_until(lambda: "splunk.invalid cannot be resolved" in caplog.text, "the log says so")
    assert out.counts()["waiting"] == 7
    with pytest.raises(SinkError, match="7 records could not be sent"):
        out.close()


def test_an_answer_of_brackets_is_no_answer() -> None:
    """What is nested too deeply for Python's parser is no answer of HEC."""
    assert read_answer(200, b"[" * 1_000_000).code is None


def test_every_code_has_words() -> None:
    """Each code of Splunk's table is told in words."""
    assert set(range(27)) <= set(CODES)
    assert set(TEXTS) <= set(CODES)


def test_threads_end(collector: HecServer) -> None:
    """After close, no thread of the sink is left."""
    out = sink(collector)
    out.write(batch(1))
    wait_until(lambda: out.counts()["written"] == 1, "it is written")
    assert any(thread.name.startswith("send to hec") for thread in threading.enumerate())
    out.close()
    assert not any(thread.name.startswith("send to hec") for thread in threading.enumerate())
