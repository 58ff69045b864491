"""Records to Splunk's HTTP Event Collector (HEC), over one or several indexers."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
import time
import uuid
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Callable
from urllib.parse import urlencode

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.pace import Complaints
from dnsqmon.sinks.destination import Settled, Unavailable
from dnsqmon.sinks.forward import Ending, Forward
from dnsqmon.sinks.hec_answer import BAD_EVENT, NO_DATA, TRY_LATER, Answer, read_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    import urllib3

    from dnsqmon.core.addresses import HecUrl
    from dnsqmon.core.interfaces import RecordBatch
    from dnsqmon.sinks.destination import Batch
    from dnsqmon.sinks.spool import Spool

log = logging.getLogger(__name__)

SOURCE = SOURCETYPE = "dnsqmon"

#: Seconds to connect, to wait for an answer, between two questions for acknowledgements, and until
#: one that does not come makes the events be sent again (Splunk may take two minutes).
CONNECT_TIMEOUT, ANSWER_TIMEOUT, ACK_EVERY, ACK_TIMEOUT = 5.0, 30.0, 1.0, 300.0
#: Seconds to wait before the rest of a batch is posted that a busy collector took only in part.
BUSY_WAITS = (0.2, 0.4, 0.8)


class Events:
    """Renders a batch as what HEC's event endpoint takes: one JSON object a record.

    Splunk's host is the sensor and its time the record's, so the event is the bare line.
    """

    def __init__(self, told: Mapping[str, str]) -> None:
        self._members = json.dumps(told)[1:-1]

    def __call__(self, batch: RecordBatch) -> list[str]:
        """Return one JSON object a record; no text of a record needs escapes but the backslash."""
        events = []
        for record, line in zip(batch.records, batch.lines("csv")):
            seconds, nanoseconds = divmod(record[0], 1_000_000_000)
            events.append(
                f'{{"time": {seconds}.{nanoseconds:09d}, "host": {_quote(record[1])}, '
                f'{self._members}, "event": {_quote(line)}}}'
            )
        return events


class Hec:
    """One collector, driven by one thread.

    Batches are cut by count, by bytes and by age, and compressed. With `raw` (source, sourcetype,
    host, index) the lines go to the raw endpoint. With `ack` a batch is settled when the indexer
    acknowledged it; without, when HEC answered 200. Events that HEC refuses for what they hold
    are found one by one and counted (`refused`); whatever else fails, the batch is sent again.
    """

    most_lines = 2000
    most_bytes = 512 * 1024
    linger = 0.2

    def __init__(
        self,
        url: HecUrl,
        token: str,
        *,
        context: ssl.SSLContext,
        raw: Mapping[str, str] | None = None,
        ack: bool = False,
        ack_timeout: float = ACK_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.name = f"hec {url}"
        self._url = url
        self._http = _urllib3()
        self._complaints = Complaints(log)
        self._context = context
        self._answer_timeout = answer_timeout
        self._headers = {"Authorization": f"Splunk {token}", "User-Agent": "dnsqmon"}
        self._base = f"{url.prefix}/services/collector"
        self._endpoint = "/event" if raw is None else f"/raw?{urlencode(raw)}"
        self._ack = ack
        self._ack_timeout = ack_timeout
        self._channel = ""
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._done: list[Settled] = []
        self._awaited: dict[int, tuple[float, Settled]] = {}
        self._asked = 0.0

    def connect(self) -> None:
        """Ask the collector whether it is well, and begin a new channel."""
        self._done.clear()
        self._awaited.clear()
        self._channel = str(uuid.uuid4())
        timeout = self._http.Timeout(connect=CONNECT_TIMEOUT, read=self._answer_timeout)
        where = {"host": self._url.host, "port": self._url.port, "timeout": timeout}
        if self._url.scheme == "https":
            self._pool = self._http.HTTPSConnectionPool(
                **where, retries=False, ssl_context=self._context
            )
        else:
            self._pool = self._http.HTTPConnectionPool(**where, retries=False)
        answer = self._request("GET", "/health")
        if answer.status in TRY_LATER:
            raise Unavailable(answer.words())

    def try_out(self) -> None:
        """Ask for more than `connect` does: that HEC is well and takes the token; sends nothing."""
        answer = self._request("GET", "/health")
        if answer.status == HTTPStatus.OK:
            answer = self._request("POST", self._endpoint)
            if answer.status == HTTPStatus.OK or answer.code == NO_DATA:
                return
        raise Unavailable(answer.words())

    def send(self, batch: Batch) -> None:
        """Post the lines, and again without those that were taken or refused for what they hold."""
        lost: Counter[str] = Counter()
        acks = self._post(batch, lost)
        settled = Settled(batch, lost)
        if not acks:
            self._done.append(settled)
        for ack in acks:
            self._awaited[ack] = (time.monotonic(), settled)

    def settled(self) -> Sequence[Settled]:
        """Return the batches that were taken, with `ack` those that were acknowledged."""
        if self._awaited and time.monotonic() - self._asked >= ACK_EVERY:
            self._ask()
        settled, self._done = self._done, []
        return settled

    def finish(self, seconds: float) -> Sequence[Settled]:
        """Wait for acknowledgements for up to `seconds`."""
        deadline = time.monotonic() + seconds
        while self._awaited and time.monotonic() < deadline:
            self._ask()
            if self._awaited:
                time.sleep(0.05)
        return self.settled()

    def disconnect(self) -> None:
        """Close the connection; a request under way ends by its own timeout."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _post(self, batch: Batch, lost: Counter[str]) -> list[int]:
        """Post the lines, in parts if HEC refuses some; count those, give what is to be awaited."""
        acks = []
        patience = list(BUSY_WAITS)
        parts = [list(batch.lines)]
        while parts:
            lines = parts.pop()
            answer = self._request("POST", self._endpoint, b"\n".join(lines) + b"\n")
            bad = answer.status == HTTPStatus.BAD_REQUEST and answer.code in BAD_EVENT
            if answer.status == HTTPStatus.OK:
                if self._ack:
                    acks.append(answer.ack_or_unavailable())
            elif bad or answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                if len(lines) == 1:
                    lost["refused"] += 1
                    self._complaints.say(f"{self.name} refuses a record: {answer.words()}")
                else:
                    parts.extend(reversed(_parts(lines, answer.invalid_event, again=self._ack)))
            elif answer.status in TRY_LATER and answer.invalid_event is not None and patience:
                # It took what stands before that event; whether it counts from 0 or 1 is not told.
                # That will never be acknowledged, so with `ack` it is sent again.
                taken = 0 if self._ack else max(answer.invalid_event - 1, 0)
                parts.append(lines[taken:] or lines)
                time.sleep(patience.pop(0))
            else:
                raise Unavailable(answer.words())
        return acks

    def _ask(self) -> None:
        """Ask which of the awaited acknowledgements came."""
        self._asked = time.monotonic()
        body = json.dumps({"acks": list(self._awaited)}).encode()
        answer = self._request("POST", "/ack", body)
        if answer.status != HTTPStatus.OK:
            raise Unavailable(answer.words())
        for ack in [ack for ack in self._awaited if answer.acks.get(str(ack)) is True]:
            _, settled = self._awaited.pop(ack)
            if all(settled is not other for _, other in self._awaited.values()):
                self._done.append(settled)
        oldest = min((sent for sent, _ in self._awaited.values()), default=self._asked)
        if self._asked - oldest > self._ack_timeout:
            raise Unavailable(f"no acknowledgement within {self._ack_timeout:g} s")

    def _request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        if self._pool is None:
            raise Unavailable("closed")
        headers = {**self._headers, "X-Splunk-Request-Channel": self._channel}
        if body is not None:
            body = gzip.compress(body, compresslevel=3)
            headers["Content-Encoding"] = "gzip"
        try:
            response = self._pool.request(method, self._base + path, body=body, headers=headers)
        except self._http.exceptions.HTTPError as error:
            raise Unavailable(self._failure(error)) from error
        return read_answer(response.status, response.data)

    def _failure(self, error: Exception) -> str:
        """Say in words why no answer came."""
        kinds = self._http.exceptions
        host = self._url.host
        if isinstance(error, kinds.NameResolutionError):
            return f"the name {host} cannot be resolved"
        if isinstance(error, kinds.SSLError):
            cause = error.args[0] if error.args else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"the certificate is refused: {cause.verify_message} (see --tls-ca)"
            return f"no TLS connection ({cause}); does this port speak https?"
        if isinstance(error, (kinds.NewConnectionError, kinds.ConnectTimeoutError)):
            return f"no connection to {host}, port {self._url.port} ({error.__cause__ or error})"
        if isinstance(error, kinds.ReadTimeoutError):
            return f"no answer within {self._answer_timeout:g} s"
        return f"the connection broke ({error})"


def hec(
    urls: Sequence[HecUrl],
    token: str,
    spool: Spool,
    *,
    context: ssl.SSLContext,
    endpoint: str = "event",
    index: str | None = None,
    ack: bool = False,
    name: str = "",
    patience: float = 0.0,
    ending: Ending | None = None,
) -> Forward:
    """Make the sink of --hec; the collectors share the load.

    `endpoint` is event or raw; the raw one is told one host for all, `name`.
    """
    told = {"source": SOURCE, "sourcetype": SOURCETYPE, **({"index": index} if index else {})}
    if endpoint == "raw":
        raw = {**told, "host": name}
        lines: Callable[[RecordBatch], Sequence[str]] = _raw_lines
    else:
        raw = None
        lines = Events(told)
    collectors = [Hec(url, token, context=context, raw=raw, ack=ack) for url in urls]
    return Forward(f"hec {urls[0]}", lines, spool, collectors, patience=patience, ending=ending)


def _raw_lines(batch: RecordBatch) -> Sequence[str]:
    """Return the lines as they are: date and time stand in front, in local time or UTC."""
    return batch.lines("csv")


_quote = json.JSONEncoder().encode


def _parts(lines: list[bytes], invalid: int | None, *, again: bool) -> list[list[bytes]]:
    """Cut lines of which one is refused: the suspects alone, and the rest; or into halves.

    What stands before the invalid event was taken, but never will be acknowledged: it is part of
    the outcome only if it is to be sent `again`. Splunk counts from 0, for some codes from 1, so
    there are two suspects.
    """
    if invalid is None or invalid > len(lines):
        half = len(lines) // 2
        return [lines[:half], lines[half:]]
    suspects = range(max(invalid - 1, 0), min(invalid + 1, len(lines)))
    parts = [[lines[number]] for number in suspects]
    taken = lines[: suspects.start] if again else []
    return [part for part in (taken, *parts, lines[invalid + 1 :]) if part]


def _urllib3() -> ModuleType:
    try:
        import urllib3  # noqa: PLC0415 - nothing else needs it
    except ImportError as error:
        raise ConfigError(
            "--hec needs urllib3, which is not installed: pip install urllib3"
        ) from error
    return urllib3
