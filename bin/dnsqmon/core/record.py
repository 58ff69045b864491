"""The record, the 14 fields of the format, and the batches that travel through the pipeline.

Records are plain tuples: a NamedTuple costs three to four times as much to create, and one is
created for every query. Unpack them in the order of `Record` and of `RECORD_FIELDS`.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

#: The columns of the CSV header, of the SQLite table and of every line of text, in order.
COLUMNS = (
    "Date", "Time", "Hostname", "SrcAddr", "SrcPort", "DstAddr", "DstPort", "RecordType",
    "Domain", "TLD", "SLD", "Levels", "Score", "Flags",
)  # fmt: skip

#: The members of a `Record` tuple, in order; in JSON lines their keys.
RECORD_FIELDS = (
    "time",          # packet time, nanoseconds since the Unix epoch (UTC)
    "hostname",      # the sensor's name
    "src_addr", "src_port", "dst_addr", "dst_port",  # innermost addresses as text, ports as int
    "record_type",   # mnemonic: A, AAAA, PTR, TYPE65280
    "domain",        # the query name, escaped and lower-cased (see decode.names)
    "tld", "sld", "levels",
    "score", "flags",  # flags: letters of `ubflsdt`, or the text None
    "transport",     # udp or tcp; None where the record came as 14 fields of text
    "transaction_id",  # the DNS message's ID, or None as above
    "score_reasons",  # points by reason, {"uncommon": 5}, or None as above; shared, read only
)  # fmt: skip

Record = tuple[
    int, str, str, int, str, int, str, str, str, str, int, int, str,
    Optional[str], Optional[int], Optional[dict[str, int]],
]  # fmt: skip

#: What decode hands to score: time_ns, src_addr, src_port, dst_addr, dst_port, record_type, domain,
#: levels, transport, transaction_id.
Query = tuple[int, str, int, str, int, str, str, int, str, int]

#: time_ns (nanoseconds since the epoch) and the captured bytes from the link header on.
Frame = tuple[int, bytes]


class FrameBatch(NamedTuple):
    """Frames of one link type (a LINKTYPE_ number of the tcpdump registry), in capture order.

    A live source yields an empty batch when nothing came for a while, so that what is timed
    (writing, status lines, list reloads) goes on.
    """

    link_type: int
    frames: list[Frame]
