"""What HEC answers, in words that say what to do."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from dnsqmon.sinks.destination import Unavailable

#: HEC's answers in words: code, what it says, what to do. From Splunk's documentation
#: ("Troubleshoot HTTP Event Collector", possible error codes).
CODES = {
    0: ("success", ""),
    1: ("token disabled", "enable the token in Splunk, or use another"),
    2: ("token is required", "give --hec-token-file or DNSQMON_HEC_TOKEN"),
    3: ("invalid authorization", "something between here and Splunk changes the header"),
    4: ("invalid token", "compare the token with the one in Splunk"),
    5: ("no data", "something between here and Splunk drops the body"),
    6: ("invalid data format", "the URL may be another collector endpoint than HEC's"),
    7: ("incorrect index", "allow the token this index, or change --hec-index"),
    8: ("internal server error", "see splunkd.log on the indexer"),
    9: ("server is busy", "its queues are full; it is asked again"),
    10: ("data channel is missing", "something between here and Splunk drops the header"),
    11: ("invalid data channel", "something between here and Splunk changes the header"),
    12: ("event field is required", "the URL may be another collector endpoint than HEC's"),
    13: ("event field cannot be blank", "the URL may be another collector endpoint than HEC's"),
    14: ("acknowledgement is disabled", "enable it for the token, or leave out --hec-ack"),
    15: ("error in handling indexed fields", "see splunkd.log on the indexer"),
    16: ("query string authorization is not enabled", "the token belongs in no URL"),
    17: ("HEC is healthy", ""),
    18: ("HEC is unhealthy: queues are full", "it is asked again"),
    19: ("HEC is unhealthy: acknowledgement is unavailable", "it is asked again"),
    20: ("HEC is unhealthy: queues are full, no acknowledgement", "it is asked again"),
    21: ("invalid token", "compare the token with the one in Splunk"),
    22: ("token disabled", "enable the token in Splunk, or use another"),
    23: ("server is shutting down", "it is asked again"),
    24: ("the queue is approaching its capacity", ""),
    25: ("acknowledgement is approaching its capacity", ""),
    26: ("the queue is at capacity", "it is asked again"),
    27: ("the acknowledgement channel is at capacity", "it is asked again"),
}
#: Those that blame one event and not the request.
BAD_EVENT = frozenset({6, 12, 13, 15})
#: Said of an empty request, once its token was found valid.
NO_DATA = 5
TRY_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Answer(NamedTuple):
    """What HEC answered, as far as it could be read."""

    status: int
    code: int | None
    text: str
    invalid_event: int | None
    ack: int | None
    acks: dict[str, bool]

    def words(self) -> str:
        """Say what is wrong and what to do."""
        if self.code in CODES:
            return f"HTTP {self.status}: {_words(self.code)}"
        return f"HTTP {self.status}: {self.text or 'no answer of HEC; is this its port and path?'}"

    def ack_or_unavailable(self) -> int:
        """Return the number to ask for; a token without acknowledgement gives none."""
        if self.ack is None:
            raise Unavailable(_words(14))
        return self.ack


def _words(code: int) -> str:
    what, advice = CODES[code]
    return f"{what} (code {code}){': ' if advice else ''}{advice}"


def read_answer(status: int, body: bytes) -> Answer:
    """Read an answer of HEC, or of whatever else answered."""
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):  # of a proxy, or of whoever means harm
        members = None
    if not isinstance(members, dict):
        return Answer(status, None, "", None, None, {})
    acks = members.get("acks")
    return Answer(
        status,
        _whole(members.get("code")),
        str(members.get("text", ""))[:200],
        _whole(members.get("invalid-event-number")),
        _whole(members.get("ackId")),
        acks if isinstance(acks, dict) else {},
    )


def _whole(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
