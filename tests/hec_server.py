"""A strict stand-in for Splunk's HTTP Event Collector, with faults to order.

It answers as Splunk's documentation says ("HTTP Event Collector REST API endpoints" and
"Troubleshoot HTTP Event Collector"), and takes nothing that Splunk would refuse.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
import uuid
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl

TOKEN = "6f1f8a4c-7f0f-4b0e-9a3e-2c61d6a1b7aa"

TEXTS = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    23: (503, "Server is shutting down"),
    26: (429, "HEC queue is at capacity and cannot process any more requests"),
}
_KEYS = {"time", "host", "source", "sourcetype", "index", "event", "fields"}


class HecServer(ThreadingHTTPServer):
    """A collector on a loopback port; `events` and `raw_lines` are what it indexed.

    `faults` is taken from the left, one a POST to event or raw, until it is empty:
      a number       answers with that code and takes nothing
      ("busy", n)    takes the first n events, then says busy (code 9)
      "hang"         takes nothing and answers nothing until `release`
      "drop"         closes the connection and takes nothing
      "cut"          takes everything and closes in the middle of its answer
      "html"         answers as a proxy whose upstream is away
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext | None = None, *, ack: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ack = ack
        self.indexes = {"main", "dns"}
        self.largest = 1_000_000
        self.unhealthy = 0
        self.is_bad: Callable[[dict[str, Any]], int] = lambda _: 0
        self.faults: deque[Any] = deque()
        self.lost_acks = 0
        self.events: list[dict[str, Any]] = []
        self.raw_lines: list[str] = []
        self.raw_queries: list[dict[str, list[str]]] = []
        self.posts = 0
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.acks: dict[str, list[bool]] = defaultdict(list)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as theirs
        """Keep quiet about clients that go away, which the faults provoke."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Stop listening; connections that are open live on."""
        self.release.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


class _RefusedError(Exception):
    def __init__(self, code: int, invalid: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.invalid = invalid


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    server: HecServer

    def do_GET(self) -> None:
        """Answer the health endpoint."""
        if urlsplit(self.path).path != "/services/collector/health":
            self._answer(404, {"text": "The requested URL was not found on this server."})
            return
        code = self.server.unhealthy or 17
        self._answer(TEXTS[code][0], {"text": TEXTS[code][1], "code": code})

    def do_POST(self) -> None:
        """Answer the event, raw and ack endpoints."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._post(body)
        except _RefusedError as refused:
            status, text = TEXTS[refused.code]
            members: dict[str, Any] = {"text": text, "code": refused.code}
            if refused.invalid is not None:
                members["invalid-event-number"] = refused.invalid
            self._answer(status, members)

    def _post(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        channel = self._authorise()
        if parts.path == "/services/collector/ack":
            self._acks(channel, body)
            return
        with self.server.lock:
            self.server.posts += 1
            fault = self.server.faults.popleft() if self.server.faults else None
        if isinstance(fault, int):
            raise _RefusedError(fault)
        if fault == "hang":
            self.server.release.wait(60)
            self.close_connection = True
            return
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "html":
            self._send(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")
            return
        if len(body) > self.server.largest:
            self._send(413, b"", "text/plain")
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        most = fault[1] if isinstance(fault, tuple) else None
        if parts.path in ("/services/collector", "/services/collector/event"):
            self._events(body, most)
        elif parts.path == "/services/collector/raw":
            self._raw(body, parse_qs(parts.query))
        else:
            self._answer(404, {"text": "The requested URL was not found on this server."})
            return
        members: dict[str, Any] = {"text": "Success", "code": 0}
        if self.server.ack:
            with self.server.lock:
                acks = self.server.acks[channel]
                acks.append(self.server.lost_acks == 0)
                self.server.lost_acks = max(0, self.server.lost_acks - 1)
                members["ackId"] = len(acks) - 1
        if fault == "cut":
            self._send(200, json.dumps(members).encode(), "application/json", cut=True)
        else:
            self._answer(200, members)

    def _authorise(self) -> str:
        header = self.headers.get("Authorization")
        if not header:
            raise _RefusedError(2)
        kind, _, token = header.partition(" ")
        if kind != "Splunk" or not token:
            raise _RefusedError(3)
        if token != TOKEN:
            raise _RefusedError(4)
        channel = self.headers.get("X-Splunk-Request-Channel", "")
        if self.server.ack and not channel:
            raise _RefusedError(10)
        if channel:
            try:
                uuid.UUID(channel)
            except ValueError:
                raise _RefusedError(11) from None
        return channel

    def _events(self, body: bytes, most: int | None) -> None:
        text = body.decode()
        decoder = json.JSONDecoder()
        position = number = 0
        while match := re.compile(r"\s*(?=\S)").match(text, position):
            if most is not None and number >= most:
                raise _RefusedError(9, number)
            try:
                event, position = decoder.raw_decode(text, match.end())
            except ValueError:
                raise _RefusedError(6, number) from None
            code = _fault_of(event, self.server.indexes) or self.server.is_bad(event)
            if code:
                raise _RefusedError(code, number)
            with self.server.lock:
                self.server.events.append(event)
            number += 1
        if not number:
            raise _RefusedError(5)

    def _raw(self, body: bytes, query: dict[str, list[str]]) -> None:
        if not body.strip():
            raise _RefusedError(5)
        if not set(query.get("index", [])) <= self.server.indexes:
            raise _RefusedError(7)
        with self.server.lock:
            self.server.raw_queries.append(query)
            self.server.raw_lines.extend(body.decode().splitlines())

    def _acks(self, channel: str, body: bytes) -> None:
        if not self.server.ack:
            raise _RefusedError(14)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked = json.loads(body)["acks"]
        with self.server.lock:
            acks = self.server.acks[channel]
            known = {str(ack): ack < len(acks) and acks[ack] for ack in asked}
            # Splunk forgets an acknowledgement once it was told.
            for ack in asked:
                if ack < len(acks):
                    acks[ack] = False
        self._answer(200, {"acks": known})

    def _answer(self, status: int, members: dict[str, Any]) -> None:
        self._send(status, json.dumps(members).encode(), "application/json; charset=UTF-8")

    def _send(self, status: int, body: bytes, kind: str, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:  # else a client may use the connection that is about to close
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _fault_of(event: object, indexes: set[str]) -> int:
    if not isinstance(event, dict) or not set(event) <= _KEYS:
        return 6
    if "event" not in event:
        return 12
    if event["event"] in ("", None):
        return 13
    if not isinstance(event.get("time", 0.0), (int, float)):
        return 6
    if not all(isinstance(event.get(key, ""), str) for key in ("host", "source", "sourcetype")):
        return 6
    if not isinstance(event.get("fields", {}), dict):
        return 15
    return 7 if event.get("index", "main") not in indexes else 0
