"""Proof on 297 captures: frame by frame against tshark, row by row against the original program.

Every difference is named: a rule says exactly when it applies, and a table says how often it does
in which capture. One that is not named fails, and so does a name that no longer applies.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import re
import struct
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

from craft import packed
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ConfigError
from dnsqmon.core.names import labels_from_text, text_from_labels
from dnsqmon.core.record import COLUMNS, FrameBatch
from dnsqmon.core.record_types import ALL_TYPES, type_name
from dnsqmon.decode.decoder import Decoder
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer
from dnsqmon.sources.capture_file import CaptureFile
from needs import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dnsqmon.core.record import Query

CORPUS = SHARED / "corpus"
CAPTURES = sorted(
    path.relative_to(CORPUS).as_posix()
    for kind in ("derived", "real", "synth")
    for path in (CORPUS / kind).rglob("*.pcap*")
)
TARGET_TYPES = (1, 12, 28)
#: The ports whose DNS tshark decodes, and those the original did.
TSHARK_PORTS, ORIGINAL_PORTS = (53, 5353, 5355), (53, 5353)

every_capture = pytest.mark.parametrize("capture", CAPTURES or ["none"])
pytestmark = pytest.mark.usefixtures("corpus")


# What we make of a capture


class Seen(NamedTuple):
    """A frame, what it gave, and what it was counted as where that was nothing."""

    number: int
    link_type: int
    octets: bytes
    queries: list[Query]
    reason: str


@functools.cache
def frames_of(capture: str) -> list[FrameBatch]:
    """Read a capture; an unreadable one has no frames."""
    try:
        source = CaptureFile(str(CORPUS / capture))
    except ConfigError:
        return []
    with contextlib.closing(source):
        return list(source.batches())


@functools.cache
def decoded(capture: str, ports: tuple[int, ...], types: tuple[int, ...]) -> list[Seen]:
    """Decode a capture frame by frame."""
    counters = Counters()
    decoder = Decoder(ports, types, counters)
    seen: list[Seen] = []
    for link_type, frames in frames_of(capture):
        for frame in frames:
            before = counters.reasons.copy()
            queries = decoder.decode(FrameBatch(link_type, [frame]))
            counters.records += len(queries)
            reason = " ".join(sorted(counters.reasons - before))
            reason = reason or ("" if queries else "held")
            seen.append(Seen(len(seen) + 1, link_type, frame[1], queries, reason))
    decoder.finish()
    assert counters.adds_up()
    return seen


def beside(capture: str, ending: str) -> Path:
    """Name the file of truth beside a capture."""
    path = CORPUS / capture
    stem = re.sub(r"\.pcap(?:ng)?$", "", path.name.replace(".pcap.", "_"))
    return path.with_name(f"{stem}.{ending}")


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a table of the corpus."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


# tshark

#: Frame, time, addresses and ports, type, name, transport, transaction ID: all as text.
Key = tuple[str, ...]


def our_keys(seen: Iterable[Seen]) -> Counter[Key]:
    """Return our queries in the form they are compared in."""
    return Counter(
        (str(frame.number), *map(str, query[:7]), query[8], f"0x{query[9]:04x}")
        for frame in seen
        for query in frame.queries
    )


def tshark_key(row: dict[str, str]) -> Key:
    """Return a row of tshark's in the form it is compared in."""
    seconds, _, nanoseconds = (row["time_epoch"] or "0.0").partition(".")
    return (
        row["frame"], str(int(seconds + nanoseconds.ljust(9, "0"))), row["src"], row["sport"],
        row["dst"], row["dport"], type_name(int(row["qtype"])) if row["qtype"] else "",
        text_from_labels(labels_of_truth(row["qname"])) if row["qname"] else "",
        row["transport"], row["txid"],
    )  # fmt: skip


def labels_of_truth(qname: str) -> list[bytes]:
    r"""Read the corpus's escapes: `\.`, `\\`, `\DDD`; independent of the code under test."""
    labels = [b""]
    for number, escaped, dot, plain in re.findall(r"\\(\d{3})|\\(.)|(\.)|(.)", qname):
        if dot:
            labels.append(b"")
        else:
            labels[-1] += bytes([int(number)]) if number else (escaped or plain).encode()
    return [] if qname == "." else labels


def udp_length_lies(octets: bytes) -> bool:
    """Say whether the UDP length is more than an Ethernet frame's IP packet has, or below 8."""
    at = 12
    while octets[at : at + 2] == b"\x81\x00":
        at += 4
    packet = octets[at + 2 :]
    if octets[at : at + 2] == b"\x08\x00":
        header = 4 * (packet[0] & 15)
        rest = struct.unpack_from(">H", packet, 2)[0] - header
    else:
        header = 40
        rest = struct.unpack_from(">H", packet, 4)[0]
    length = struct.unpack_from(">H", packet, header + 4)[0]
    return not 8 <= length <= rest


def why_tshark_alone(capture: str, row: dict[str, str], frame: Seen) -> str:
    """Name the reason why tshark has a query and we do not; empty where there is none."""
    notes, reason = row["notes"].split(","), frame.reason
    ports = {int(row[side]) for side in ("sport", "dport") if row[side]}
    holds = {
        "no query: quoted in an ICMP error": "icmp" in notes and reason == "other_protocol",
        "no query: another opcode": row["opcode"] != "0" and reason == "other_opcode",
        "no query: not a valid name": "badname" in notes and reason == "bad_name",
        "a port that was not chosen": not ports & set(TSHARK_PORTS) and reason == "other_port",
        "no host takes it: UDP length is wrong": (
            frame.link_type == 1 and reason == "malformed" and udp_length_lies(frame.octets)
        ),
        "RFC 5722: overlapping fragments are dropped": (
            (capture, row["frame"]) == ("synth/ip_fragments.pcap", "24") and reason == "held"
        ),
        "link type not decoded: ARCNET": (
            row["layers"].startswith("arcnet") and reason == "link_type"
        ),
        "link type not decoded: PKTAP": (
            row["layers"].startswith("pktap") and reason == "link_type"
        ),
    }  # fmt: skip
    return next((name for name, applies in holds.items() if applies), "")


#: Queries that tshark does not see, by capture and frame.
WE_ALONE = {
    ("synth/tcp.pcap", "67"): "tshark does not put swapped TCP segments in order",
    ("synth/ipv6_extension.pcap", "10"): "tshark does not look behind a mobility header",
    ("synth/ipv6_extension.pcap", "11"): "tshark does not look behind a HIP or Shim6 header",
}


def tshark_rows(capture: str, *, target: bool) -> list[dict[str, str]]:
    """Return tshark's first questions: all, or those that we report by default."""
    # tshark cannot read bzip2 and xz: the three compressed captures are the same one.
    source = re.sub(r"bz2$|xz$", "gz", capture)
    rows = [row for row in rows_of(beside(source, "all.tsv")) if row["qidx"] == "0"]
    if not target:
        return rows
    by_tcp = [
        row for row in rows
        if row["transport"] == "tcp" and "53" in (row["sport"], row["dport"])
        and int(row["qtype"]) in TARGET_TYPES
    ]  # fmt: skip
    return [*rows_of(beside(source, "truth.tsv")), *by_tcp]


def tshark_differences(capture: str, *, target: bool) -> Counter[str]:
    """Compare a capture with tshark; each difference under its name, or else spelt out."""
    ports, types = ((53,), TARGET_TYPES) if target else (TSHARK_PORTS, (ALL_TYPES,))
    seen = decoded(capture, ports, types)
    rows = [row for row in tshark_rows(capture, target=target) if row["qidx"] == "0"]
    ours = our_keys(seen)
    theirs = Counter(map(tshark_key, rows))
    row_of = {tshark_key(row): row for row in rows}
    differences: Counter[str] = Counter()
    for key in (theirs - ours).elements():
        name = why_tshark_alone(capture, row_of[key], seen[int(key[0]) - 1])
        differences[name or f"tshark alone: {key} {seen[int(key[0]) - 1].reason}"] += 1
    for key in (ours - theirs).elements():
        differences[WE_ALONE.get((capture, key[0]), f"we alone: {key}")] += 1
    return differences


#: How often each named difference occurs, by capture.
Differences = dict[str, dict[str, int]]

TSHARK_DIFFERENCES: Differences = {
    "RFC 5722: overlapping fragments are dropped": {"synth/ip_fragments.pcap": 1},
    "a port that was not chosen": {
        "real/ndpi/avast_securedns.pcapng": 39, "real/pktvisor/dns_ipv6_udp.pcap": 70,
        "synth/fuzz_frames.pcap": 14, "synth/ports.pcap": 3,
    },
    "link type not decoded: ARCNET": {
        "real/libpcap/arcnet-rfc1201-arp-icmp-http.pcap": 2,
        "real/tcpdump/arcnet-rfc1201-arp-icmp-http.pcap": 2,
    },
    "link type not decoded: PKTAP": {"real/tcpdump/LINKTYPE_PKTAP.pcap": 1},
    "no host takes it: UDP length is wrong": {
        "synth/fuzz_frames.pcap": 31, "synth/length_lies.pcap": 1,
    },
    "no query: another opcode": {
        "real/arkime/dns-update.pcap": 1, "real/suricata/dns-answer-emptydata-input.pcap": 1,
        "real/zeek/dynamic-update.pcap": 2, "synth/flags_opcodes.pcap": 17,
        "synth/fuzz_dns.pcap": 12, "synth/fuzz_frames.pcap": 3,
    },
    "no query: not a valid name": {
        "synth/compression.pcap": 4, "synth/fuzz_dns.pcap": 108, "synth/fuzz_frames.pcap": 7,
        "synth/names_length.pcap": 3, "synth/ports.pcap": 1,
    },
    "no query: quoted in an ICMP error": {
        "real/compactor/teststats.pcap": 3, "real/ipfixprobe/mixed.pcap": 11,
        "real/suricata/gre-sample.pcap": 2, "synth/encapsulation.pcap": 2,
    },
    "tshark does not look behind a HIP or Shim6 header": {"synth/ipv6_extension.pcap": 1},
    "tshark does not look behind a mobility header": {"synth/ipv6_extension.pcap": 1},
    "tshark does not put swapped TCP segments in order": {"synth/tcp.pcap": 2},
}  # fmt: skip

TSHARK_DEFAULT_DIFFERENCES: Differences = {
    "RFC 5722: overlapping fragments are dropped": {"synth/ip_fragments.pcap": 1},
    "link type not decoded: ARCNET": {
        "real/libpcap/arcnet-rfc1201-arp-icmp-http.pcap": 2,
        "real/tcpdump/arcnet-rfc1201-arp-icmp-http.pcap": 2,
    },
    "link type not decoded: PKTAP": {"real/tcpdump/LINKTYPE_PKTAP.pcap": 1},
    "no host takes it: UDP length is wrong": {
        "synth/fuzz_frames.pcap": 29, "synth/length_lies.pcap": 1,
    },
    "no query: another opcode": {
        "synth/flags_opcodes.pcap": 15, "synth/fuzz_dns.pcap": 2, "synth/fuzz_frames.pcap": 3,
    },
    "no query: not a valid name": {
        "synth/compression.pcap": 3, "synth/fuzz_dns.pcap": 3, "synth/fuzz_frames.pcap": 2,
        "synth/names_length.pcap": 3,
    },
    "tshark does not look behind a HIP or Shim6 header": {"synth/ipv6_extension.pcap": 1},
    "tshark does not look behind a mobility header": {"synth/ipv6_extension.pcap": 1},
    "tshark does not put swapped TCP segments in order": {"synth/tcp.pcap": 2},
}  # fmt: skip


@every_capture
def test_queries_of_every_kind_are_those_of_tshark(capture: str) -> None:
    """All types on all DNS ports: frame, time, addresses, name and ID are tshark's, or named."""
    expected = named(TSHARK_DIFFERENCES, capture)
    assert tshark_differences(capture, target=False) == expected


@every_capture
def test_queries_by_default_are_those_of_tshark(capture: str) -> None:
    """A, AAAA and PTR on port 53, by UDP and TCP: all is as tshark says, or named."""
    expected = named(TSHARK_DEFAULT_DIFFERENCES, capture)
    assert tshark_differences(capture, target=True) == expected


def named(differences: Differences, capture: str) -> dict[str, int]:
    """Pick the named differences of one capture."""
    return {name: counts[capture] for name, counts in differences.items() if capture in counts}


# What the generator of the synthetic captures put in

#: Segments that complete messages, where the generator gives all to the connection's last one.
WHOLE_EARLIER = {("synth/tcp.pcap", frame) for frame in ("73", "102", "103", "104")}


@pytest.mark.parametrize(
    "capture", [name for name in CAPTURES if beside(name, "intent.tsv").exists()] or ["none"]
)
def test_what_was_put_in_comes_out(capture: str) -> None:
    """Every query that a careful decoder must report is reported, and none that it must not."""
    ours: Counter[Key] = Counter()
    by_frame: Counter[str] = Counter()
    for key in our_keys(decoded(capture, (53,), TARGET_TYPES)).elements():
        ours[key[:1] + key[2:8]] += 1
        by_frame[key[0]] += 1
    rows = rows_of(beside(capture, "intent.tsv"))
    may = {row["frame"] for row in rows if row["expect"] != "never"}
    reported: set[str] = set()
    for row in rows:
        if row["expect"] == "must" and row["frame"] not in reported:  # its first question alone
            reported.add(row["frame"])
            key = (
                row["frame"], row["src"], row["sport"], row["dst"], row["dport"],
                type_name(int(row["qtype"])), text_from_labels(labels_of_truth(row["qname"])),
            )  # fmt: skip
            assert ours[key], row
        elif row["frame"] not in may and (capture, row["frame"]) not in WHOLE_EARLIER:
            assert not by_frame[row["frame"]], row


# Counters


@every_capture
def test_every_frame_is_accounted_for_however_they_are_batched(capture: str) -> None:
    """The sum holds after each batch, nothing is held at the end, and all batches give the same."""
    results = []
    for size in (1, 3, 1024):
        counters = Counters()
        decoder = Decoder(TSHARK_PORTS, (ALL_TYPES,), counters)
        queries: list[Query] = []
        for link_type, frames in frames_of(capture):
            for start in range(0, len(frames), size):
                found = decoder.decode(FrameBatch(link_type, frames[start : start + size]))
                counters.records += len(found)
                queries += found
                assert counters.adds_up()
        decoder.finish()
        assert counters.adds_up()
        assert counters.held == 0
        assert counters.packets == sum(len(batch.frames) for batch in frames_of(capture))
        results.append((queries, +counters.reasons, counters.records, counters.pipelined))
    assert results[0] == results[1] == results[2]


# The original program


class Golden(NamedTuple):
    """A row the original wrote: up to the levels as one text (names may hold commas), and the rest.

    All of it read as Latin-1, for names were written raw.
    """

    text: str
    score: int
    flags: str


def golden_rows(path: Path) -> list[Golden]:
    """Read what the original wrote; a name may hold line feeds, so the masked date parts rows."""
    header, *rows = path.read_bytes().decode("latin-1").split("DATE,TIME,testhost,")
    assert header == ",".join(COLUMNS) + "\n"
    return [Golden(text, int(score), flags) for text, score, flags in (
        row[:-1].rsplit(",", 2) for row in rows
    )]  # fmt: skip


def raw_name(domain: str) -> str:
    """Return a name as the original would have written it, in lower case."""
    return b".".join(labels_from_text(domain)).decode("latin-1")


class Ours(NamedTuple):
    """One of our rows in the form of the original's, and our own domain."""

    text: str
    score: int
    flags: str
    domain: str


@functools.lru_cache(maxsize=1)
def shipped_lists() -> Lists:
    """Load the three lists that the original came with."""
    folder = CORPUS / "lists"
    return Lists.load(
        watch=str(folder / "watchdomain.txt"),
        common=str(folder / "commondomain.txt"),
        server=str(folder / "serverdomain.txt"),
    )


def our_rows(seen: list[Seen], lists: Lists) -> dict[int, list[Ours]]:
    """Score and render a capture as the sensor does; rows by frame, as the original spelt them."""
    scorer = Scorer("testhost", load_profile("classic"), lists, FirstSeen(10**6))
    rows: dict[int, list[Ours]] = {}
    for frame in seen:
        for line in Rendered(scorer.score(frame.queries), Clock(utc=True)).lines("csv"):
            fields = next(csv.reader([line]))
            assert len(fields) == len(COLUMNS)
            domain = fields[8]
            # The escapes, the root's dot and what hangs on them: undone to compare the rest.
            if "\\" in domain or domain == ".":
                name = raw_name(domain)
                parts = name.split(".")
                fields[8:12] = [name, parts[-1], ".".join(parts[-2:]), str(len(parts))]
            row = Ours(",".join(fields[3:12]), int(fields[12]), fields[13], domain)
            rows.setdefault(frame.number, []).append(row)
    return rows


#: Reasons of ours for frames that the original made a row of: it asked for a DNS layer, QR 0 and
#: a first question of one of three types, and took whatever it could make out of the rest.
SLOPPY = {
    "bad_name": "it logs names that are none",
    "malformed": "it logs questions that are not whole, or whose lengths are wrong",
    "truncated": "it logs questions that are not whole, or whose lengths are wrong",
    "other_opcode": "it logs messages that are no standard queries",
    "fragment_lost": "it logs what a single fragment holds",
    "held": "it logs what a single fragment holds",
    "fragment_joined": "it logs what a single fragment holds",
}  # fmt: skip


def could_give(golden: Golden, frame: Seen) -> bool:
    """Say whether a frame that gave no query of ours has the addresses and the name of a row."""
    src, src_port, dst, dst_port, _, name = golden.text.split(",", 6)[:6]
    if frame.reason not in SLOPPY or (frame.queries and frame.reason != "fragment_joined"):
        return False
    words = [packed(src), packed(dst), struct.pack(">HH", int(src_port), int(dst_port))]
    words += [label.encode("latin-1") for label in name.split(".")]
    return all(word in frame.octets for word in words)


def same_row(golden: Golden, ours: Ours, layers: str) -> bool:
    """Say whether two rows tell of the same query: the case and a tunnel's addresses aside."""
    names = layers.split(":")
    tunnelled = names.count("ip") + names.count("ipv6") > 1
    if not tunnelled and golden.text.split(",")[:4] != ours.text.split(",")[:4]:
        return False
    return lower(golden.text).split(",")[4:] == lower(ours.text).split(",")[4:]


def lower(text: str) -> str:
    """Lower-case ASCII alone, in text read as Latin-1."""
    return text.encode("latin-1").lower().decode("latin-1")


def paired(
    capture: str, golden: list[Golden], ours: dict[int, list[Ours]]
) -> Iterator[tuple[Golden | None, Seen | None, Ours | None]]:
    """Follow both accounts of a capture, frame by frame: the original's row, the frame, our row.

    The original wrote at most one row a frame, in order. Each is given to the last frame it can
    have come from: of frames alike it is the cut ones, which come first, that gave no row.
    """
    seen = decoded(capture, ORIGINAL_PORTS, TARGET_TYPES)
    layers = defaultdict(str, layers_of(capture))
    rows: dict[int, Golden] = {}
    homeless: list[Golden] = []
    end = len(seen)
    for row in reversed(golden):
        for frame in reversed(seen[:end]):
            mine = ours.get(frame.number)
            if (mine and same_row(row, mine[0], layers[frame.number])) or could_give(row, frame):
                rows[frame.number] = row
                end = frame.number - 1
                break
        else:
            homeless.append(row)
    for frame in seen:
        theirs, mine = rows.get(frame.number), ours.get(frame.number, [])
        if theirs and mine and same_row(theirs, mine[0], layers[frame.number]):
            yield theirs, frame, mine.pop(0)
        elif theirs:
            yield theirs, frame, None
        for more in mine:
            yield None, frame, more
    for row in homeless:
        yield row, None, None


#: Rows of the original that come of no frame of ours.
ORIGINAL_ALONE = {
    (
        "synth/pcap_huge_caplen.pcap",
        "10.0.0.5,40000,10.0.0.1,53,AAAA,c1.example.org,org,example.org,3",
    ): "it takes what is left of a file for the frame of a record that claims gigabytes",
}  # fmt: skip


def site(text: str) -> str:
    """Return the SLD of a row, by which first seen goes, in lower case."""
    return lower(text).split(",")[-2]


def why_we_alone(capture: str, frame: Seen, ours: Ours) -> str:
    """Name the reason why the original lost a query; empty where there is none."""
    layers = layers_of(capture).get(frame.number, "")
    first = frames_of(capture)[0].link_type
    family = ORIGINAL_LINKS.get(frame.link_type)
    holds = {
        "it does not read DNS over TCP": ":tcp:" in layers,
        "it does not put fragments together": frame.reason == "fragment_joined",
        "it does not know the link type": family is None or (family and ":" in ours.text[:25]),
        "it takes every interface of a file for the first": frame.link_type != first,
        "it does not know the link type: bits of the FCS length beside it": (
            capture == "synth/pcap_fcs_bits.pcap"
        ),
        "it does not know the encapsulation": bool(
            re.search(r"mpls|gre:ppp|udp:gre|pppoe|geneve|gtp|teredo|:ah:", layers)
        ),
        "it does not take all packet blocks of pcapng: obsolete and simple ones": (
            capture.startswith("synth/ng_multi_if") and frame.number in {6, 7}
        ),
        "it does not look behind AH, mobility, HIP and Shim6 headers": (
            capture == "synth/ipv6_extension.pcap" and frame.number in {8, 10, 11}
        ),
        "it takes a total length of 0, which offload leaves, for no payload": (
            capture == "synth/length_lies.pcap" and frame.number == 13
        ),
        "it gives up a message whose further records are broken": broken_behind(frame.octets, ours),
    }  # fmt: skip
    return next((name for name, applies in holds.items() if applies), "")


#: Link types that scapy 2.3.3 knows, and whether it takes them for IPv4 only.
ORIGINAL_LINKS = {1: False, 12: True, 101: True, 113: False, 127: False}


@functools.cache
def layers_of(capture: str) -> dict[int, str]:
    """Return tshark's layers of each frame with a query."""
    return {int(row["frame"]): row["layers"] for row in rows_of(beside(capture, "all.tsv"))}


def broken_behind(octets: bytes, ours: Ours) -> bool:
    """Say whether a UDP message has fewer records than it says, or ones that cannot be."""
    _, src_port, _, dst_port = ours.text.split(",")[:4]
    start = octets.find(struct.pack(">HH", int(src_port), int(dst_port)))
    if start < 0:
        return False
    size = struct.unpack_from(">H", octets, start + 4)[0]
    message = octets[start + 8 : start + size]
    position = 12
    try:
        questions, *others = struct.unpack_from(">4H", message, 4)
        for index in range(questions + sum(others)):
            while message[position]:
                if message[position] > 63:
                    position += 1
                    if message[position - 1] < 0xC0:
                        return True
                    break
                position += 1 + message[position]
            position += 1
            if index < questions:
                position += 4
            else:
                position += 10 + struct.unpack_from(">H", message, position + 8)[0]
    except (IndexError, struct.error):
        return True
    return position > len(message)


def row_differences(golden: Golden, ours: Ours, unlike: set[str]) -> Iterator[str]:
    """Name each way in which a row of the original's differs from ours."""
    theirs = golden.text
    if theirs.split(",")[:4] != ours.text.split(",")[:4]:
        yield "it shows a tunnel's outermost addresses"
    names = theirs.split(",", 5)[5]
    cased = names != lower(names)
    if cased:
        yield "it keeps the case of names"
    if "\\" in ours.domain:
        yield "it writes names as they are: commas, line feeds, any octet"
    if ours.domain == ".":
        yield "it writes the root as nothing"
    if (golden.score, golden.flags) != (ours.score, ours.flags):
        theirs_alone = set(golden.flags.replace("None", "")) ^ set(ours.flags.replace("None", ""))
        if cased and theirs_alone <= set("ubft"):
            yield "it compares names in the case they come in"
        elif (
            theirs_alone == {"f"} and abs(golden.score - ours.score) == 5 and site(theirs) in unlike
        ):
            yield "first seen: a row that only one of the two has came before"
        else:
            yield f"score: {golden} {ours}"


def original_differences(capture: str, *, with_lists: bool) -> Counter[str]:
    """Compare a capture with the original's CSV; each difference under its name, or spelt out."""
    run, ending, lists = "scapy233", "orig.csv", Lists()
    if with_lists:
        run, ending, lists = "scapy233_lists", "orig-lists.csv", shipped_lists()
    golden = golden_rows(beside(capture, ending))
    ours = our_rows(decoded(capture, ORIGINAL_PORTS, TARGET_TYPES), lists)
    if outcome(capture, run):
        assert not golden
        lost = sum(map(len, ours.values()))
        return Counter({"it ended with a traceback and lost every row": lost} if lost else {})
    differences: Counter[str] = Counter()
    unlike: set[str] = set()
    for row, frame, mine in paired(capture, golden, ours):
        if row and mine:
            found = list(row_differences(row, mine, unlike))
            differences.update(found)
            if found:
                unlike.add(site(row.text))
        elif row:
            name = SLOPPY[frame.reason] if frame else ORIGINAL_ALONE.get((capture, row.text))
            differences[name or f"original alone: {row}"] += 1
            unlike.add(site(row.text))
        elif mine and frame:
            differences[
                why_we_alone(capture, frame, mine)
                or f"we alone: {frame.number} lt={frame.link_type} {mine}"
            ] += 1
            unlike.add(site(mine.text))
    return differences


ORIGINAL_DIFFERENCES: Differences = {
    "first seen: a row that only one of the two has came before": {
        "real/suricata/dns-frames-input.pcap": 1, "synth/fuzz_dns.pcap": 1,
        "synth/fuzz_frames.pcap": 2, "synth/ip_fragments.pcap": 1, "synth/names_case.pcap": 3,
        "synth/names_special.pcap": 1, "synth/tcp.pcap": 1, "synth/truncated_payload.pcap": 1,
    },
    "it compares names in the case they come in": {
        "real/zeek/dns_original_case.pcap": 1, "synth/names_case.pcap": 29,
        "synth/names_root_single.pcap": 3, "synth/scoring.pcap": 2,
    },
    "it does not know the encapsulation": {
        "derived/wsrepo__mpls.pcap": 11, "real/arkime/6-4-gre-ppp-udp-4-dns.pcap": 1,
        "real/zeek/gre-over-udp-4754.pcap": 2,
    },
    "it does not know the link type": {
        "derived/wikipedia__sll2.pcap": 14, "derived/wsrepo__null.pcap": 11,
        "derived/wsrepo__sll2.pcap": 11, "real/dnsjit/pellets.pcap": 91,
        "real/pcapplusplus/nflogPacket.pcap": 1, "real/tcpdump/LINKTYPE_IPV4.pcap": 1,
        "real/tcpdump/LINKTYPE_IPV4_invalid.pcap": 1, "synth/link_chdlc104.pcap": 6,
        "synth/link_enc109.pcap": 6, "synth/link_ipv4_228.pcap": 4, "synth/link_ipv6_229.pcap": 2,
        "synth/link_loop.pcap": 6, "synth/link_null_be.pcap": 6, "synth/link_null_le.pcap": 6,
        "synth/link_ppp9.pcap": 6, "synth/link_ppp_ether51.pcap": 6, "synth/link_raw101.pcap": 2,
        "synth/link_raw12.pcap": 2, "synth/link_raw14.pcap": 6, "synth/link_sll2.pcap": 6,
        "synth/ng_multi_if_be.pcapng": 2, "synth/ng_multi_if_le.pcapng": 2,
    },
    "it does not know the link type: bits of the FCS length beside it": {
        "synth/pcap_fcs_bits.pcap": 8,
    },
    "it does not look behind AH, mobility, HIP and Shim6 headers": {"synth/ipv6_extension.pcap": 3},
    "it does not put fragments together": {
        "derived/wsrepo__frag.pcap": 11, "real/dnscap/frags.pcap": 41,
        "real/dnscollector/dnsdump_ip4_fragmented_query.pcap": 2,
        "real/dnscollector/dnsdump_ip6_fragmented_query.pcap": 1, "synth/ip_fragments.pcap": 10,
    },
    "it does not read DNS over TCP": {
        "real/dnscap/1qtcpnosyn.pcap": 1, "real/dnscap/dnso1tcp.pcap": 41,
        "real/dnscap/dnsotcp-many1pkt.pcap": 3, "real/dnscollector/dnsdump_tcp_fastopen.pcap": 4,
        "real/dnscollector/dnsdump_udp_tcp.pcap": 1,
        "real/dnscollector/dnsdump_udp_truncated_tcp_fragmented.pcap": 1,
        "real/gopassivedns/100_tcp_lookups.pcapng": 300, "real/suricata/dns-frames-input.pcap": 1,
        "real/suricata/task-7018-ids-dns-keywords-input.pcap": 3, "real/suricata/tcpdns.pcap": 2,
        "real/tcpdump/dns_tcp.pcap": 1, "synth/tcp.pcap": 50,
    },
    "it does not take all packet blocks of pcapng: obsolete and simple ones": {
        "synth/ng_multi_if_be.pcapng": 2, "synth/ng_multi_if_le.pcapng": 2,
    },
    "it ended with a traceback and lost every row": {
        "derived/wikipedia__nano_be.pcap": 14, "derived/wsrepo__nano.pcap": 11,
        "derived/wsrepo__nano_be.pcap": 11, "real/compactor/teststats.pcap": 3,
        "real/ipfixprobe/mixed.pcap": 12, "real/pypacker/packets_ether-2.pcap": 2,
        "synth/encapsulation.pcap": 26, "synth/ng_bad_block_length.pcapng": 1,
        "synth/ng_bad_interface.pcapng": 1, "synth/pcap_cut_record.pcap": 7,
        "synth/pcap_modified_kuz.pcap": 4, "synth/pcap_nano.pcap": 8, "synth/pcap_nano_be.pcap": 8,
        "synth/pcap_plain.pcap.bz2": 8, "synth/pcap_plain.pcap.gz": 8,
        "synth/pcap_plain.pcap.xz": 8, "synth/pcap_trailing_garbage.pcap": 8,
    },
    "it gives up a message whose further records are broken": {
        "synth/fuzz_dns.pcap": 181, "synth/fuzz_frames.pcap": 29, "synth/length_lies.pcap": 1,
        "synth/multi_question.pcap": 1, "synth/tcp.pcap": 2, "synth/truncated_payload.pcap": 11,
    },
    "it keeps the case of names": {
        "derived/wsrepo__be.pcap": 2, "derived/wsrepo__gre.pcap": 2,
        "derived/wsrepo__ng_be.pcapng": 2, "derived/wsrepo__raw.pcap": 2,
        "derived/wsrepo__sll.pcap": 2, "derived/wsrepo__vlan.pcap": 2,
        "derived/wsrepo__vxlan.pcap": 2, "real/arkime/dns-wiresharkrepo.pcap": 2,
        "real/ipfixprobe/dnssd.pcap": 1, "real/ndpi/anyconnect-vpn.pcap": 2,
        "real/ndpi/dns-exf.pcap": 1, "real/ndpi/whatsapp_login_call.pcap": 4,
        "real/suricata/dns-udp-junkrequest-first-input.pcap": 1,
        "real/suricata/smb2-ntlmssp-negotiateflags-input.pcap": 3,
        "real/zeek/dns_original_case.pcap": 1, "real/zeek/ticks-dns-1hr.pcap": 10,
        "real/zeek/ticks-dns.pcap": 10, "synth/fuzz_dns.pcap": 10, "synth/fuzz_frames.pcap": 14,
        "synth/names_case.pcap": 31, "synth/names_root_single.pcap": 3,
        "synth/names_special.pcap": 4, "synth/scoring.pcap": 3,
    },
    "it logs messages that are no standard queries": {
        "synth/flags_opcodes.pcap": 15, "synth/fuzz_dns.pcap": 1, "synth/fuzz_frames.pcap": 3,
    },
    "it logs names that are none": {
        "real/maltrail/dns_malformed.pcap": 1, "synth/compression.pcap": 6,
        "synth/fuzz_dns.pcap": 15, "synth/names_length.pcap": 3,
    },
    "it logs questions that are not whole, or whose lengths are wrong": {
        "derived/wsrepo__snap60.pcap": 19, "real/maltrail/dns_malformed.pcap": 2,
        "synth/compression.pcap": 4, "synth/fuzz_dns.pcap": 23, "synth/fuzz_frames.pcap": 84,
        "synth/length_lies.pcap": 9, "synth/ng_snaplen.pcapng": 1,
    },
    "it logs what a single fragment holds": {
        "derived/wsrepo__frag.pcap": 14, "real/dnscollector/dnsdump_ip4_fragmented_query.pcap": 2,
        "real/dnscollector/dnsdump_ip6_fragmented_query.pcap": 1, "synth/fuzz_frames.pcap": 1,
        "synth/ip_fragments.pcap": 13,
    },
    "it shows a tunnel's outermost addresses": {
        "derived/wsrepo__gre.pcap": 11, "derived/wsrepo__vxlan.pcap": 11, "real/ndpi/vxlan.pcap": 4,
        "real/suricata/vxlan.pcap": 8,
    },
    "it takes a total length of 0, which offload leaves, for no payload": {
        "synth/length_lies.pcap": 1,
    },
    "it takes every interface of a file for the first": {"synth/ng_two_sections.pcapng": 1},
    "it takes what is left of a file for the frame of a record that claims gigabytes": {
        "synth/pcap_huge_caplen.pcap": 1,
    },
    "it writes names as they are: commas, line feeds, any octet": {
        "real/ndpi/dns-invalid-chars.pcap": 1, "synth/fuzz_dns.pcap": 113,
        "synth/fuzz_frames.pcap": 69, "synth/names_special.pcap": 58,
    },
    "it writes the root as nothing": {
        "real/suricata/detect-bytetest-03-input.pcap": 1, "synth/fuzz_dns.pcap": 75,
        "synth/names_root_single.pcap": 6, "synth/scoring.pcap": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("with_lists", [False, True], ids=["no-lists", "lists"])
@every_capture
def test_rows_are_those_of_the_original(capture: str, with_lists: bool) -> None:
    """All 12 fields behind the date and time are what the original wrote, or named."""
    expected = named(ORIGINAL_DIFFERENCES, capture)
    assert original_differences(capture, with_lists=with_lists) == expected


def test_every_named_capture_is_there() -> None:
    """No difference is named in a capture that the corpus does not have."""
    tables = (TSHARK_DIFFERENCES, TSHARK_DEFAULT_DIFFERENCES, ORIGINAL_DIFFERENCES)
    captures = {name for table in tables for counts in table.values() for name in counts}
    assert captures <= set(CAPTURES)
    assert len(CAPTURES) >= 297


@functools.lru_cache(maxsize=1)
def manifest() -> dict[str, dict[str, dict[str, int]]]:
    """Read how the original's runs ended."""
    entries = json.loads((CORPUS / "manifest.json").read_text())
    return {entry["file"]: entry["original"] for entry in entries}


def outcome(capture: str, run: str) -> int:
    """Return the exit status of the original's run."""
    return manifest()[capture][run]["rc"]
