"""What was counted between the packet and the record, and the sum that must add up."""

from __future__ import annotations

from collections import Counter

#: Why a captured frame gave no record of its own. The order is that of the printed table.
REASONS = {
    "link_type": "link type that is not decoded",
    "not_ip": "no IPv4 or IPv6 packet in the frame",
    "other_protocol": "IP, but neither UDP nor TCP",
    "other_port": "UDP or TCP, but on none of the chosen ports",
    "tunnel": "a tunnel that could not be opened",
    "truncated": "cut off by the snap length before the end of the question",
    "malformed": "lengths or headers that contradict each other",
    "fragment_joined": "IP fragment whose datagram was completed by a later one",
    "fragment_lost": "IP fragment whose datagram was never completed",
    "tcp_empty": "TCP segment without data",
    "tcp_joined": "TCP segment whose message was completed by a later one",
    "tcp_lost": "TCP segment whose message was never completed or not understood",
    "tcp_repeated": "TCP segment that was seen before",
    "response": "DNS response",
    "other_opcode": "DNS message, but not a standard query (opcode 0)",
    "no_question": "DNS query without a question",
    "bad_name": "question whose name is not a valid domain name",
    "other_type": "query for a record type that was not asked for",
}

#: Packets, pipelined, held and reasons: all but the records, which the scorer counts.
Decoded = tuple[int, int, int, dict[str, int]]


class Counters:
    """Frames in, records out, and each frame that gave no record under its reason.

    `packets + pipelined = records + sum(reasons) + held` holds whenever a batch is done:
    `pipelined` are the further DNS messages of a TCP segment that carried more than one,
    `held` the fragments and segments that wait for the rest of their message.
    """

    def __init__(self) -> None:
        self.packets = 0
        self.pipelined = 0
        self.records = 0
        self.held = 0
        self.reasons: Counter[str] = Counter()

    def decoded(self) -> Decoded:
        """Return what the decoder counts, for a process that has other counters."""
        return self.packets, self.pipelined, self.held, dict(self.reasons)

    def take_over(self, decoded: Decoded) -> None:
        """Set what the decoder counts to what it counted elsewhere."""
        self.packets, self.pipelined, self.held, reasons = decoded
        self.reasons = Counter(reasons)

    def adds_up(self) -> bool:
        """Say whether every frame is accounted for."""
        return (
            self.packets + self.pipelined == self.records + sum(self.reasons.values()) + self.held
        )
