"""The account of a running pipeline as Prometheus text, served over HTTP."""

from __future__ import annotations

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Callable

from dnsqmon import __version__
from dnsqmon.account.account import SOURCE_COUNTS
from dnsqmon.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Answers GET /metrics at `address` (host, port) with what `read` gives (see `Reports.latest`).

    Runs in threads that end with the program. ConfigError if the address cannot be listened on.
    """

    def __init__(self, address: tuple[str, int], read: Callable[[], Mapping[str, Any]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10
            server_version = f"dnsqmon/{__version__}"

            def do_GET(self) -> None:
                if self.path != "/metrics":
                    self.send_error(HTTPStatus.NOT_FOUND, "ask for /metrics")
                    return
                body = "".join(exposition(read())).encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", _CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Stay quiet: a scraper asks every few seconds."""

        try:
            self._server = _server(address, Handler)
        except OSError as error:
            raise ConfigError(
                f"--metrics {address[0]}:{address[1]}: cannot listen: {error.strerror}"
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def exposition(counts: Mapping[str, Any]) -> Iterator[str]:
    """Lay an account out in the Prometheus text format, version 0.0.4."""
    plain = {
        "captured_packets_total": (counts["captured"], "Packets that passed the filter."),
        "inspected_packets_total": (counts["packets"], "Packets that reached the decoder."),
        "pipelined_messages_total": (
            counts["pipelined"],
            "Further DNS messages in a TCP segment that carried more than one.",
        ),
        "records_total": (counts["records"], "Queries that became a record."),
        "held_packets": (counts["held"], "Fragments and segments that wait for the rest."),
    }
    for name, (value, meaning) in plain.items():
        yield _family(name, meaning, {"": value})
    yield _family(
        "lost_packets_total", "Packets lost before they could be inspected.",
        {
            f'{{reason="{reason}"}}': value
            for reason, value in counts["lost"].items() if reason != "on_the_way"
        },
    )  # fmt: skip
    if "senders" in counts:
        yield from _senders(counts)
    yield _family(
        "refused_packets_total", "Packets that are no query of a wanted type.",
        {f'{{reason="{reason}"}}': value for reason, value in counts["refused"].items()},
    )  # fmt: skip
    for name, value in counts["source"].items():
        counter = "" if name == "waiting_in_ring" else "_total"
        yield _family(f"{name}{counter}", f"{SOURCE_COUNTS[name].capitalize()}.", {"": value})
    waiting, settled = {}, {}
    for sink, outcomes in counts["sinks"].items():
        for outcome, value in outcomes.items():
            if outcome == "waiting":
                waiting[f'{{sink="{sink}"}}'] = value
            else:
                settled[f'{{sink="{sink}",outcome="{outcome}"}}'] = value
    yield _family("sink_records_total", "Records by sink and what became of them.", settled)
    yield _family("sink_waiting_records", "Records that a sink has yet to send.", waiting)
    for name, value in counts["inlet"].items():
        counter = "" if name == "first_seen_domains" else "_total"
        yield _family(f"{name}{counter}", f"{name.replace('_', ' ').capitalize()}.", {"": value})


def _senders(counts: Mapping[str, Any]) -> Iterator[str]:
    """Lay out losses by sender, as gauges: what is missing gets less when it comes late."""
    yield _family(
        "missing_datagrams", "Signed datagrams that have not come.",
        {"": counts["lost"]["on_the_way"]},
    )  # fmt: skip
    yield _family(
        "sender_losses", "Datagrams refused or missing, by sender.",
        {
            f'{{sender="{sender}",reason="{reason}"}}': value
            for sender, losses in counts["senders"].items() for reason, value in losses.items()
        },
    )  # fmt: skip


def _family(name: str, meaning: str, values: Mapping[str, int]) -> str:
    kind = "counter" if name.endswith("_total") else "gauge"
    head = f"# HELP dnsqmon_{name} {meaning}\n# TYPE dnsqmon_{name} {kind}\n"
    return head + "".join(f"dnsqmon_{name}{labels} {value}\n" for labels, value in values.items())


def _server(address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

    return Server(address, handler)
