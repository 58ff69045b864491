"""The account as Prometheus text over HTTP."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from dnsqmon.account.prometheus import MetricsServer, exposition
from dnsqmon.core.errors import ConfigError
from needs import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT: dict[str, Any] = {
    "time": 1772438400.5,
    "captured": 12,
    "lost": {"kernel_dropped": 2},
    "packets": 10,
    "pipelined": 1,
    "records": 6,
    "refused": {"response": 4},
    "held": 1,
    "adds_up": True,
    "source": {"filtered": 7, "waiting_in_ring": 2},
    "sinks": {"csv": {"written": 5, "waiting": 1, "lost_write_error": 0}},
    "inlet": {"first_seen_domains": 3, "first_seen_evicted": 0},
}


@pytest.fixture(name="server")
def _server() -> Iterator[MetricsServer]:
    server = MetricsServer(("127.0.0.1", 0), lambda: ACCOUNT)
    yield server
    server.close()


def _get(server: MetricsServer, path: str) -> tuple[int, str | None, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    result = answer.status, answer.getheader("Content-Type"), answer.read().decode()
    connection.close()
    return result


def test_each_number_of_the_account_is_a_sample() -> None:
    """Counters end in _total, what goes up and down is a gauge, reasons and sinks are labels."""
    lines = "".join(exposition(ACCOUNT)).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "dnsqmon_captured_packets_total 12",
        "dnsqmon_inspected_packets_total 10",
        "dnsqmon_pipelined_messages_total 1",
        "dnsqmon_records_total 6",
        "dnsqmon_held_packets 1",
        'dnsqmon_lost_packets_total{reason="kernel_dropped"} 2',
        'dnsqmon_refused_packets_total{reason="response"} 4',
        "dnsqmon_filtered_total 7",
        "dnsqmon_waiting_in_ring 2",
        'dnsqmon_sink_records_total{sink="csv",outcome="written"} 5',
        'dnsqmon_sink_records_total{sink="csv",outcome="lost_write_error"} 0',
        'dnsqmon_sink_waiting_records{sink="csv"} 1',
        "dnsqmon_first_seen_domains 3",
        "dnsqmon_first_seen_evicted_total 0",
    ]
    kinds = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds)
    assert sum(line.startswith("# HELP") for line in lines) == len(kinds)


def test_losses_of_senders_are_gauges() -> None:
    """What is missing may come yet, so it is no counter; reasons and senders are labels."""
    heard = {
        **ACCOUNT,
        "lost": {"no_tag": 4, "on_the_way": 3},
        "senders": {"192.0.2.7": {"no_tag": 4}, "2001:db8::7": {"on_the_way": 3}},
    }
    lines = "".join(exposition(heard)).splitlines()
    assert [line for line in lines if "lost_" in line or "missing" in line or "sender" in line] == [
        "# HELP dnsqmon_lost_packets_total Packets lost before they could be inspected.",
        "# TYPE dnsqmon_lost_packets_total counter",
        'dnsqmon_lost_packets_total{reason="no_tag"} 4',
        "# HELP dnsqmon_missing_datagrams Signed datagrams that have not come.",
        "# TYPE dnsqmon_missing_datagrams gauge",
        "dnsqmon_missing_datagrams 3",
        "# HELP dnsqmon_sender_losses Datagrams refused or missing, by sender.",
        "# TYPE dnsqmon_sender_losses gauge",
        'dnsqmon_sender_losses{sender="192.0.2.7",reason="no_tag"} 4',
        'dnsqmon_sender_losses{sender="2001:db8::7",reason="on_the_way"} 3',
        'dnsqmon_sink_records_total{sink="csv",outcome="lost_write_error"} 0',
    ]


def test_prometheus_own_parser_reads_it() -> None:
    """What is served is what Prometheus's client library understands."""
    try:
        from prometheus_client import parser  # noqa: PLC0415 - tests pass without it, but not CI
    except ImportError:
        missing("the Python package prometheus-client")
    families = list(parser.text_string_to_metric_families("".join(exposition(ACCOUNT))))
    samples = [sample for family in families for sample in family.samples]
    assert len(samples) == 14
    assert {sample.labels["reason"] for sample in samples if "reason" in sample.labels} == {
        "kernel_dropped", "response",
    }  # fmt: skip


def test_metrics_are_served_at_one_path(server: MetricsServer) -> None:
    """GET /metrics answers with the account of now, any other path with 404."""
    status, kind, body = _get(server, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == "".join(exposition(ACCOUNT))
    assert _get(server, "/")[0] == 404


def test_an_address_that_is_taken_is_refused() -> None:
    """The setting and the address are named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--metrics 127.0.0.1:{port}: cannot listen"):
            MetricsServer(("127.0.0.1", port), lambda: ACCOUNT)
