"""Proof of the message: to its first question, or to the reason there is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craft import dns_query, dns_response
from dnsqmon.core.counters import REASONS
from dnsqmon.decode.message import Question, first_question

QUERY = dns_query("a.example", 28, txid=0xABCD)

MESSAGES = {
    "query": (QUERY, Question(0xABCD, [b"a", b"example"], 28)),
    "root": (dns_query(b"\0", txid=1), Question(1, [], 1)),
    "more than a question": (QUERY + b"\xff" * 9, Question(0xABCD, [b"a", b"example"], 28)),
    "first of two": (
        dns_query("b", txid=2, qdcount=2, raw=QUERY[12:]), Question(2, [b"b"], 1),
    ),
    "type without a class": (QUERY[:-2], "malformed"),
    "response": (dns_response(QUERY), "response"),
    "response of another opcode": (dns_query(flags=0xA800), "response"),
    "notify": (dns_query(flags=0x2000), "other_opcode"),
    "no question": (dns_query(qdcount=0), "no_question"),
    "pointer to itself": (dns_query(b"\xc0\x0c"), "bad_name"),
    "extended label": (dns_query(b"\x41\0"), "bad_name"),
    "too long": (dns_query([b"x" * 63] * 4), "bad_name"),
    "255 octets": (
        dns_query([b"x" * 63] * 3 + [b"y" * 61], txid=3),
        Question(3, [b"x" * 63] * 3 + [b"y" * 61], 1),
    ),
    "256 octets": (dns_query([b"x" * 63] * 3 + [b"y" * 62]), "bad_name"),
    "too long, and cut before its end": (dns_query([b"x" * 63] * 4)[:-20], "bad_name"),
    "nothing": (b"", "malformed"),
    "11 octets": (QUERY[:11], "malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), list(MESSAGES.values()), ids=list(MESSAGES))
def test_messages(message: bytes, expected: Question | str) -> None:
    """Each kind of message gives its first question or its reason."""
    assert first_question(message) == expected


@pytest.mark.parametrize(("cut", "reason"), [(False, "malformed"), (True, "truncated")])
def test_a_message_that_ends_early(cut: bool, reason: str) -> None:
    """At every length short of the question it is malformed, or truncated by the capture."""
    for length in range(len(QUERY)):
        assert first_question(QUERY[:length], cut=cut) == reason
    assert isinstance(first_question(QUERY, cut=cut), Question)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_octets_give_a_question_or_a_reason(octets: bytes, cut: bool) -> None:
    """No octets raise; what comes is a valid question or a reason that is counted."""
    for message in (octets, QUERY[:12] + octets):
        found = first_question(message, cut=cut)
        if isinstance(found, str):
            assert found in REASONS
        else:
            assert sum(map(len, found.labels)) + len(found.labels) + 1 <= 255
            assert all(0 < len(label) <= 63 for label in found.labels)
