"""Stand in for the part of Splunk's web server that a dashboard talks to, over given events.

Pages, the unmodified views of the app, and the REST endpoints of search jobs. Every search and
every chain search is evaluated when it is asked for (see spl.py).
"""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from browser.expressions import SplError, text_of
from browser.spl import Results, Window, iso, relative_time, run

if TYPE_CHECKING:
    from pathlib import Path

    from browser.events import Index

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".xml": "text/xml"}
_PRESETS = (
    ("Last_60_minutes", "Last 60 minutes", "-60m@m"),
    ("Last_24_hours", "Last 24 hours", "-24h@h"),
    ("Last_7_days", "Last 7 days", "-7d@h"),
)


class Job(NamedTuple):
    """A search that was asked for, with its rows or with the reason why it failed."""

    spl: str
    window: Window
    results: Results
    error: str


class Splunkd(ThreadingHTTPServer):
    """The server; `jobs`, `chains` and `errors` tell a test what the browser asked for."""

    daemon_threads = True

    def __init__(self, index: Index, now: float, views: Path, page: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.index, self.now = index, now
        self.views, self.page = views, page
        self.jobs: dict[str, Job] = {}
        self.chains: list[str] = []
        self.errors: list[str] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        """Let the browser hang up; report anything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def search(self, form: dict[str, str]) -> str:
        """Run a search over the events of its time range and give its id."""
        earliest = relative_time(form.get("earliest_time") or "0", self.now)
        window = Window(
            earliest, relative_time(form.get("latest_time") or "now", self.now), self.now
        )
        rows = [
            e for e in self.index.events if window.earliest <= float(e["_time"]) < window.latest
        ]
        results, error = self._run(form["search"], Results([], rows), window)
        with self._lock:
            sid = f"sid_{len(self.jobs) + 1}"
            self.jobs[sid] = Job(form["search"], window, results, error)
        return sid

    def results(self, sid: str, chain: str) -> Results:
        """Return the rows of a job, run through the commands of a chain search."""
        job = self.jobs[sid]
        if not chain:
            return job.results
        with self._lock:
            self.chains.append(chain)
        return self._run(chain, job.results, job.window)[0]

    def _run(self, spl: str, over: Results, window: Window) -> tuple[Results, str]:
        try:
            return run(spl, over, window, self.index.knowledge), ""
        except SplError as error:
            with self._lock:
                self.errors.append(f"{error}: {spl}")
            return Results([], []), str(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Splunkd

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep quiet: the test reads the server's lists."""

    def do_POST(self) -> None:
        """Start a search, give the rows of a chain search, or take a control action."""
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        path, form = unquote(urlsplit(self.path).path), parse_qs(body)
        if re.search(r"/search/(v2/)?jobs/?$", path):
            self._json({"sid": self.server.search({key: form[key][0] for key in form})}, 201)
        else:
            self._rest(path, form)

    def do_DELETE(self) -> None:
        """Forget a search."""
        self._json({"messages": []})

    def do_GET(self) -> None:
        """Serve pages and views, or what REST tells of a job."""
        address = urlsplit(self.path)
        path = unquote(address.path)
        if "/splunkd/" in path:
            self._rest(path, parse_qs(address.query))
        elif path.endswith(".xml"):
            self._file(self.server.views / path.rsplit("/", 1)[1])
        elif re.search(r"\.(js|css)$", path):
            self._file(self.server.page / path.rsplit("/", 1)[1], cached=True)
        elif "/app/" in path:
            self._file(self.server.page / "index.html")
        else:
            self.send_error(404)

    def _rest(self, path: str, query: dict[str, list[str]]) -> None:
        job = re.search(r"/search/(?:v2/)?jobs/(sid_\d+)(/\w+)?/?$", path)
        if job is not None and job.group(2) in ("/results", "/results_preview"):
            chain = query.get("search", [""])[0]
            offset = int(query.get("offset", ["0"])[0])
            count = int(query.get("count", ["0"])[0])
            self._json(_columns(self.server.results(job.group(1), chain), offset, count))
        elif job is not None and job.group(2) is None:
            self._json({"entry": [self._entry(job.group(1))]})
        elif re.search(r"/search/(v2/)?jobs/?$", path):
            self._json({"entry": [self._entry(sid) for sid in query.get("id", [])]})
        elif path.endswith("/search/timeparser"):
            times = query.get("time", [])
            self._json({text: iso(relative_time(text, self.server.now)) for text in times})
        elif path.endswith("/data/ui/times"):
            self._json({"entry": [_preset(n, *one) for n, one in enumerate(_PRESETS)]})
        elif "current-context" in path:
            user = {"username": "admin", "capabilities": ["search"], "roles": ["admin"]}
            self._json({"entry": [{"content": user}]})
        else:
            self._json({"entry": [], "messages": []})

    def _entry(self, sid: str) -> dict[str, Any]:
        job = self.server.jobs[sid]
        state = "FAILED" if job.error else "DONE"
        count = len(job.results.rows)
        content = {
            "sid": sid, "isDone": True, "isFailed": bool(job.error), "dispatchState": state,
            "doneProgress": 1, "isFinalized": False, "isPaused": False, "isPreviewEnabled": False,
            "resultCount": count, "resultPreviewCount": count, "eventCount": count,
            "scanCount": count, "statusBuckets": 0, "runDuration": 0.1,
            "messages": [{"type": "ERROR", "text": job.error}] if job.error else [],
        }  # fmt: skip
        return {"name": job.spl, "id": sid, "published": iso(self.server.now), "content": content}

    def _file(self, path: Path, *, cached: bool = False) -> None:
        if path.is_file():
            self._send(path.read_bytes(), _TYPES[path.suffix], 200, cached=cached)
        else:
            self.send_error(404)

    def _json(self, answer: object, status: int = 200) -> None:
        self._send(json.dumps(answer).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int, *, cached: bool = False) -> None:
        self.send_response(status)
        self.send_header("cache-control", "max-age=3600" if cached else "no-store")
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _preset(order: int, name: str, label: str, earliest: str) -> dict[str, Any]:
    content = {"label": label, "earliest_time": earliest, "latest_time": "now", "order": order}
    return {"name": name, "content": {**content, "disabled": False}}


def _columns(results: Results, offset: int, count: int) -> dict[str, Any]:
    """Return rows as output_mode=json_cols does: every value as text, times in ISO 8601.

    Without rows there are no fields either.
    """
    rows = results.rows[offset : offset + count if count else None]
    fields = results.fields if results.rows else []
    return {
        "preview": False,
        "init_offset": offset,
        "post_process_count": len(results.rows),
        "messages": [],
        "fields": [{"name": name} for name in fields],
        "columns": [[_cell(name, row.get(name)) for row in rows] for name in fields],
    }


def _cell(name: str, value: object) -> object:
    if value is None:
        return None
    if name == "_time":
        return iso(float(str(value)))
    return [text_of(one) for one in value] if isinstance(value, list) else text_of(value)
