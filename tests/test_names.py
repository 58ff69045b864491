"""Proof of the name's text: from octets to the record and back, through every format."""

from __future__ import annotations

import csv
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craft import TIME, wire_name
from dnsqmon.core.names import (
    labels_from_text,
    labels_from_wire,
    normalise,
    octets,
    text_from_labels,
)
from dnsqmon.core.record import COLUMNS
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.score.first_seen import FirstSeen
from dnsqmon.score.lists import Lists
from dnsqmon.score.profile import load_profile
from dnsqmon.score.scorer import Scorer

TEXTS = {
    "plain": ([b"www", b"example", b"com"], "www.example.com"),
    "root": ([], "."),
    "upper case": ([b"WWW", b"ExAmple"], "www.example"),
    "dot in a label": ([b"a.b", b"c"], "a\\046b.c"),
    "a dot alone": ([b"."], "\\046"),
    "what could break a line": ([b"a\r\n\t\0\x7f"], "a\\013\\010\\009\\000\\127"),
    "what could break a field": ([b", \"'"], "\\044\\032\\034\\039"),
    "what means something in a zone file": ([b"(a);@$\\"], "\\040a\\041\\059\\064\\036\\092"),
    "not ASCII": ([b"\x80\xff", "é".encode()], "\\128\\255.\\195\\169"),
    "what stays": ([b"a-b_c*d/e=f:g!#%&+<>?[]^`{|}~"], "a-b_c*d/e=f:g!#%&+<>?[]^`{|}~"),
    "digits behind an escape": ([b"a\x0012"], "a\\00012"),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "text"), list(TEXTS.values()), ids=list(TEXTS))
def test_labels_to_text_and_back(labels: list[bytes], text: str) -> None:
    """Each kind of octet has its one spelling, which gives the octets back in lower case."""
    assert text_from_labels(labels) == text
    assert labels_from_text(text) == [label.lower() for label in labels]
    assert normalise(text) == text
    assert octets(text) == sum(map(len, labels)) + max(len(labels) - 1, 0)


WIRES = {
    "root": (b"\0", []),
    "two labels": (b"\1a\2bc\0", [b"a", b"bc"]),
    "nothing": (b"", None),
    "no end": (b"\1a", None),
    "label over the end": (b"\5a\0", None),
    "octets behind the end": (b"\1a\0\0", None),
    "label of 63": (b"\x3f" + b"a" * 63 + b"\0", [b"a" * 63]),
    "label of 64": (b"\x40" + b"a" * 64 + b"\0", None),
    "pointer": (b"\xc0\0", None),
    "255 octets": (wire_name([b"a" * 63] * 3 + [b"b" * 61]), [b"a" * 63] * 3 + [b"b" * 61]),
    "256 octets": (wire_name([b"a" * 63] * 3 + [b"b" * 62]), None),
}


@pytest.mark.parametrize(("wire", "labels"), list(WIRES.values()), ids=list(WIRES))
def test_wire_to_labels(wire: bytes, labels: list[bytes] | None) -> None:
    """A whole valid name gives its labels, and anything else gives None."""
    assert labels_from_wire(wire) == labels


WRITTEN = {
    "example.com": "example.com",
    "Example.COM.": "example.com",
    ".": ".",
    "bücher.example": "xn--bcher-kva.example",
    "BÜCHER\u3002example": "xn--bcher-kva.example",
    "a\\.b.c": "a\\046b.c",
    "a\\046b.c": "a\\046b.c",
    "\\065b": "ab",
    "a,b.c": "a\\044b.c",
    "a\\\\b": "a\\092b",
    "_dmarc.example.com": "_dmarc.example.com",
    "*.example.com": "*.example.com",
}


@pytest.mark.parametrize(("written", "text"), list(WRITTEN.items()))
def test_names_as_people_write_them(written: str, text: str) -> None:
    """A list's names come out as the queries for them do."""
    assert normalise(written) == text
    assert normalise(text) == text


REFUSED = {
    "": "empty label",
    "..": "empty label",
    "a..b": "empty label",
    ".a": "empty label",
    "a b": "space",
    "a\tb": "control",
    "a\\": "backslash",
    "a\\25": "backslash",
    "a\\256": "256 is no octet",
    "a" * 64: "more than 63 octets",
    ".".join(["a" * 63] * 4): "more than 255 octets",
    "é" * 70: "not an international domain name",
}


@pytest.mark.parametrize(("written", "reason"), list(REFUSED.items()))
def test_what_is_no_name_is_refused(written: str, reason: str) -> None:
    """Text that cannot be a domain name gives ValueError with the reason."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        normalise(written)


LABELS: st.SearchStrategy[list[bytes]] = st.lists(
    st.binary(min_size=1, max_size=63), max_size=8
).filter(lambda labels: sum(map(len, labels)) + len(labels) + 1 <= 255)


@settings(max_examples=500, deadline=None)
@given(LABELS)
def test_any_octets_make_the_round_trip(labels: list[bytes]) -> None:
    """Whatever octets a name has: its text is printable ASCII and gives them back."""
    text = text_from_labels(labels)
    assert re.fullmatch(r"[!-~]+", text)
    assert not set(text) & set("\"',();@$")
    lowered = [label.lower() for label in labels]
    assert labels_from_text(text) == lowered
    assert text_from_labels(lowered) == text
    assert labels_from_wire(wire_name(labels)) == labels
    assert normalise(text) == normalise(normalise(text)) == text
    assert octets(text) == sum(map(len, labels)) + max(len(labels) - 1, 0)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=40))
def test_normalise_is_idempotent_or_refuses(written: str) -> None:
    """Any text is refused with ValueError, or gives a name that normalises to itself."""
    try:
        text = normalise(written)
    except ValueError:
        return
    assert normalise(text) == text
    assert text_from_labels(labels_from_text(text)) == text


@settings(max_examples=300, deadline=None)
@given(LABELS, st.sampled_from(["classic", "weighted"]))
def test_any_name_keeps_its_shape_in_every_format(labels: list[bytes], profile: str) -> None:
    """A CSV row has 14 fields, a JSON line is one object, a screen line is one line of text."""
    domain = text_from_labels(labels)
    scorer = Scorer("sensor", load_profile(profile), Lists(), FirstSeen(100))
    records = scorer.score([
        (TIME, "192.0.2.1", 1024, "2001:db8::1", 53, "A", domain, len(labels) or 1, "udp", 7),
    ])  # fmt: skip
    batch = Rendered(records, Clock(utc=True))
    (row,) = csv.reader(batch.lines("csv"))
    assert len(row) == len(COLUMNS) == 14
    assert row[8] == domain
    assert labels_from_text(row[8]) == [label.lower() for label in labels]
    assert [str(value) for value in batch.rows()[0]] == row
    (line,) = batch.lines("json")
    assert json.loads(line)["domain"] == domain
    (screen,) = batch.lines("screen")
    assert re.fullmatch(r"[ -~]+", screen)
    assert screen.endswith(f" - {domain}")
