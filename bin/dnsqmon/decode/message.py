"""A DNS message to its first question (RFC 1035, section 4.1), or to the reason there is none."""

from __future__ import annotations

from typing import NamedTuple

from dnsqmon.core.names import MAX_NAME

HEADER = 12


class Question(NamedTuple):
    """The first question of a query; labels without the empty one of the root."""

    transaction_id: int
    labels: list[bytes]
    type_number: int


def first_question(message: bytes, *, cut: bool = False) -> Question | str:
    """Read the first question of a standard query; a reason of `counters.REASONS` for all else.

    `cut` says that the capture holds less of the message than was sent.
    """
    short = "truncated" if cut else "malformed"
    if len(message) < HEADER:
        return short
    flags = int.from_bytes(message[2:4], "big")
    if flags & 0x8000:
        return "response"
    if flags & 0x7800:
        return "other_opcode"
    if message[4:6] == b"\0\0":
        return "no_question"
    labels: list[bytes] = []
    position = HEADER
    octets = 1
    while True:
        if position >= len(message):
            return short
        length = message[position]
        position += 1
        if not length:
            break
        # A pointer (the two high bits) leads to an earlier name, and there is none before the
        # first question; the other two label types were never put to use (RFC 6891, section 5).
        if length > 63 or octets + length + 1 > MAX_NAME:
            return "bad_name"
        octets += length + 1
        labels.append(message[position : position + length])
        position += length
    if position + 4 > len(message):
        return short
    type_number = int.from_bytes(message[position : position + 2], "big")
    return Question(int.from_bytes(message[:2], "big"), labels, type_number)
