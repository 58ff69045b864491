"""`score.scorer`: flags, score and reasons, as the original really gave them."""

from __future__ import annotations

import csv
import itertools
import os
from typing import TYPE_CHECKING

import pytest

import craft
from dnsqmon.core.record import FrameBatch
from dnsqmon.score import scorer as module
from dnsqmon.score.lists import Lists
from dnsqmon.sources.capture_file import CaptureFile
from seed_rows import SEED_ROWS
from traffic import CLIENT, SERVER, load_lists, query, sensor, take, timed, verdict

if TYPE_CHECKING:
    from pathlib import Path

# The lists that the original's sample rows imply: u is set for every other SLD, b for these names.
SEED_COMMON = (
    "google.com reddit.com adzerk.net wikipedia.org imgur.com 500px.org soundcloud.com "
    "redditgifts.com googleapis.com amazonaws.com googleusercontent.com google-analytics.com "
    "yandex.ru yieldmanager.com ge.tt"
)
SEED_WATCH = "wq1porm.s3.amazonaws.com s3.amazonaws.com ge.tt ad.yieldmanager.com"


def test_rows_of_the_original(tmp_path: Path) -> None:
    """Every sample row of the original's README gets its TLD, SLD, levels, score and flags.

    A row without f whose SLD no row above it has was preceded by a query that is not shown.
    """
    lists = load_lists(tmp_path, watch=SEED_WATCH, common=SEED_COMMON, server="10.18.22.12")
    stages = sensor(lists=lists)
    seen: set[str] = set()
    for row in SEED_ROWS:
        src, src_port, dst, _, record_type, name, tld, sld, levels, score, flags = row[3:]
        if sld not in seen and "f" not in flags:
            take(stages, query(sld))
        seen.add(sld)
        qtype = {"A": 1, "AAAA": 28, "PTR": 12}[record_type]
        frame = query(name, src, dst, sport=int(src_port), qtype=qtype)
        (record,) = take(stages, frame)
        expected = (
            "roonet", src, int(src_port), dst, 53, record_type, name, tld, sld,
            int(levels), int(score), flags,
        )  # fmt: skip
        assert record[1:13] == expected


@pytest.mark.parametrize(
    ("names", "verdicts"),
    [
        ("www.google.com www.google.com", [(5, "f"), (0, "None")]),
        ("ru", [(50, "ufst")]),
        (". .", [(16, "ufst"), (11, "ust")]),
        ("site.de site.de", [(11, "uft"), (6, "ut")]),
        ("1.0.0.10.in-addr.arpa 2.0.0.10.in-addr.arpa", [(5, "f"), (0, "None")]),
        # Only the whole name is a hit, neither a parent nor a child of it.
        ("evil.example.com", [(40, "bf")]),
        ("www.evil.example.com example.com", [(5, "f"), (0, "None")]),
        # The SLD must be common: bbc.co.uk is common by co.uk.
        ("www.bbc.co.uk", [(6, "ft")]),
        # Short up to 6 octets, long from 36, never both.
        ("ab.com", [(15, "ufs")]),
        ("abc.com", [(10, "uf")]),
        (f"{'x' * 31}.com", [(10, "uf")]),
        (f"{'x' * 32}.com", [(15, "ufl")]),
        # The case of a query does not matter, as it did in the original.
        ("EVIL.Example.COM google.COM foo.RU", [(40, "bf"), (5, "f"), (50, "ufst")]),
        ("a.ru a.ru", [(85, "ubfst"), (80, "ubst")]),
        ("localhost site.gov site.museum", [(11, "uft"), (11, "uft"), (11, "uft")]),
    ],
)
def test_classic(tmp_path: Path, names: str, verdicts: list[tuple[int, str]]) -> None:
    """Score and flags with all three lists are what the original was seen to give."""
    lists = load_lists(
        tmp_path,
        watch="evil.example.com bad.ru a.ru",
        common="google.com in-addr.arpa example.com co.uk",
        server=SERVER,
    )
    records = take(sensor(lists=lists), *map(query, names.split()))
    assert [verdict(record) for record in records] == verdicts


def test_most_points(tmp_path: Path) -> None:
    """All that can be together is 85 points, and the flags stand in the order u b f l|s d t."""
    long = f"{'x' * 33}.ru"
    lists = load_lists(tmp_path, watch=f"bad.ru {long}", common="google.com", server=SERVER)
    records = take(sensor(lists=lists), query("bad.ru", SERVER), query(long, SERVER))
    assert [verdict(record) for record in records] == [(85, "ubfsdt"), (85, "ubfldt")]
    assert records[0][15] == {
        "uncommon": 5, "watch": 35, "first_seen": 5, "short": 5, "server": 0, "tld": 35,
    }  # fmt: skip
    assert list(records[1][15] or {}) == [
        "uncommon", "watch", "first_seen", "long", "server", "tld",
    ]  # fmt: skip


def test_every_combination(tmp_path: Path) -> None:
    """For all combinations of what a query can be, score, flags and reasons say the same."""
    common = {True: "known.{}", False: "other.{}"}
    pads = {"long": "x" * 40 + ".", "short": "", None: "www."}
    lists = load_lists(
        tmp_path,
        common="known.com known.de known.ru k.de k.ru k.com",
        watch=" ".join(
            f"{pads[length]}{common[known].format(tld)}"
            for length in ("long", None)
            for known in (True, False)
            for tld in ("com", "de", "ru")
        )
        + " k.de o.de k.ru o.ru k.com o.com",
        server=SERVER,
    )
    points = {"u": 5, "b": 35, "f": 5, "l": 5, "s": 5, "d": 0}
    found = set()
    for known, length, watched, tld, src in itertools.product(
        (True, False), pads, (True, False), ("com", "de", "ru"), (SERVER, CLIENT)
    ):
        if length == "short":
            name = ("k." if known else "o.") + tld
        else:
            name = pads[length] + common[known].format(tld)
        if not watched:
            name = "y." + name if length != "short" else ("known." if known else "z.") + tld
        stages = sensor(lists=lists)
        for first, record in zip((True, False), take(stages, query(name, src), query(name, src))):
            expected = "".join((
                "" if known else "u",
                "b" if watched else "",
                "f" if first else "",
                "l" if len(name) > 35 else "s" if len(name) < 7 else "",
                "d" if src == SERVER else "",
                "" if tld == "com" else "t",
            ))  # fmt: skip
            score = sum(
                {**points, "t": {"de": 1, "ru": 35}.get(tld)}[flag] or 0 for flag in expected
            )
            assert verdict(record) == (score, expected or "None"), name
            assert sum((record[15] or {}).values()) == score
            found.add(expected)
    assert len(found) >= 60


@pytest.mark.parametrize(
    ("labels", "domain", "flags"),
    [
        # 35 and 36 octets, 6 and 7 octets, with octets that are written as four characters.
        ([b"\xff" * 31, b"com"], "\\255" * 31 + ".com", "f"),
        ([b"\xff" * 32, b"com"], "\\255" * 32 + ".com", "fl"),
        ([b",,", b"com"], "\\044\\044.com", "fs"),
        ([b",,,", b"com"], "\\044\\044\\044.com", "f"),
        ([b"a.b", b"com"], "a\\046b.com", "f"),
        ([b"a.", b"com"], "a\\046.com", "fs"),
    ],
)
def test_length_is_in_octets(labels: list[bytes], domain: str, flags: str) -> None:
    """What counts for l and s is the name's length on the wire, not that of its escaped text."""
    (record,) = take(sensor(), query(labels))
    assert (record[7], record[12]) == (domain, flags)


def test_escaped_dot_is_no_level() -> None:
    """A dot inside a label separates nothing: it makes no level, no TLD and no SLD."""
    (record,) = take(sensor(), query([b"www", b"a.b", b"org"]))
    assert record[8:11] == ("org", "a\\046b.org", 3)
    (record,) = take(sensor(), query([b"x.ru"]))
    assert record[7:13] == ("x\\046ru", "x\\046ru", "x\\046ru", 1, 11, "fst")


@pytest.mark.parametrize(
    ("name", "tld", "sld", "levels"),
    [
        (".", ".", ".", 1),
        ("ru", "ru", "ru", 1),
        ("www.bbc.co.uk", "uk", "co.uk", 4),
        ("1.0.0.10.in-addr.arpa", "arpa", "in-addr.arpa", 6),
        (".".join("b" * 32) + ".ip6.arpa", "arpa", "ip6.arpa", 34),
    ],
)
def test_levels(name: str, tld: str, sld: str, levels: int) -> None:
    """TLD, SLD and levels are the original's; the root is a dot with one level."""
    (record,) = take(sensor(), query(name))
    assert record[8:11] == (tld, sld, levels)


def test_without_lists() -> None:
    """Without a common list nothing is uncommon, without a watch or server list nothing listed."""
    records = take(sensor(), query("www.example.com", SERVER), query("www.example.com", SERVER))
    assert [verdict(record) for record in records] == [(5, "f"), (0, "None")]


def test_weighted_takes_the_registrable_domain(tmp_path: Path) -> None:
    """By `weighted`, bbc.co.uk is common on its own and first seen on its own; co.uk is not."""
    lists = load_lists(tmp_path, common="bbc.co.uk", watch="www.evil.co.uk")
    records = take(
        sensor(profile="weighted", lists=lists),
        *map(query, ("www.bbc.co.uk", "news.bbc.co.uk", "www.evil.co.uk", "co.uk")),
    )
    assert [record[9] for record in records] == ["bbc.co.uk", "bbc.co.uk", "evil.co.uk", "co.uk"]
    assert [verdict(record) for record in records] == [
        (25, "ft"), (20, "t"), (5 + 35 + 5 + 20, "ubft"), (5 + 5 + 5 + 20, "ufst"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("src", "known"),
    [
        ("10.18.22.12", True),
        ("10.18.22.13", False),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("2001:db8::53", True),
        ("2001:db8:1::ffff", True),
        ("2001:db8:2::1", False),
        ("::ffff:10.18.22.12", True),
    ],
)
def test_known_servers(tmp_path: Path, src: str, known: bool) -> None:
    """Sources on the server list, by address or network of either family, set d for no points."""
    lists = load_lists(tmp_path, server="10.18.22.12 192.0.2.0/24 2001:DB8:0::53 2001:db8:1::/48")
    dst = "2001:db8::1" if ":" in src else SERVER
    for record in take(sensor(lists=lists), *[query("www.example.com", src, dst)] * 2):
        assert ("d" in record[12]) is known
        assert record[11] == (5 if "f" in record[12] else 0)


def test_more_sources_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many sources are remembered as may be, they are forgotten; answers stay right."""
    monkeypatch.setattr(module, "MAX_SOURCES", 3)
    stages = sensor(lists=load_lists(tmp_path, server="10.0.0.0/29"))
    sources = [f"10.0.0.{number}" for number in range(16)] * 2
    records = take(stages, *(query("www.example.com", src) for src in sources))
    assert ["d" in record[12] for record in records] == ([True] * 8 + [False] * 8) * 2


def test_new_lists_apply_at_once(tmp_path: Path) -> None:
    """Once a changed list is loaded again, the next query of a known site is judged by it."""
    lists = load_lists(tmp_path, watch="a.example", common="example.com", server="192.0.2.1")
    stages = sensor(lists=lists)
    frames = [query("www.example.com"), query("www.example.org")]
    take(stages, *frames)
    assert [record[12] for record in take(stages, *frames)] == ["None", "u"]
    (tmp_path / "watch.txt").write_text("www.example.com\n")
    (tmp_path / "common.txt").write_text("example.org\n")
    (tmp_path / "server.txt").write_text(f"{CLIENT}\n")
    stages.reload()
    assert [record[12] for record in take(stages, *frames)] == ["None", "u"]
    stages.keep_up()
    assert [record[12] for record in take(stages, *frames)] == ["ubd", "d"]


def test_same_score_whatever_the_batches() -> None:
    """Cutting the frames into other batches changes nothing."""
    frames = timed(query(f"n{number % 7}.site-{number % 11}.com") for number in range(100))
    whole = sensor().take(FrameBatch(craft.ETHERNET, frames))
    for size in (1, 3, 50):
        stages, records = sensor(), []
        for start in range(0, len(frames), size):
            records += stages.take(FrameBatch(craft.ETHERNET, frames[start : start + size]))
        assert records == whole


# How our rows differ from the original's on the corpus's own lists, and why.
ON_ALL_LISTS = {
    # The original skipped " 10.0.0.5" for its leading space; these rows come from there: d.
    "server": {3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42},
    # The original compared the query as it was spelled: EVIL.example.com, GOOGLE.COM.
    "case": {6, 39, 40},
    # The root is `.` in the record, the original left it empty.
    "root": {25},
}


def test_corpus_with_lists_of_its_own(corpus: Path) -> None:
    """On the original's own rows we differ in its faults alone, and there as intended."""
    folder = corpus / "synth"
    lists = Lists.load(**{
        name: os.fspath(folder / f"scoring.{name}.txt") for name in ("watch", "common", "server")
    })  # fmt: skip
    stages = sensor(lists=lists)
    source = CaptureFile(os.fspath(folder / "scoring.pcap"))
    ours = [record for batch in source.batches() for record in stages.take(batch)]
    source.close()
    with (folder / "scoring.orig-testlists.csv").open(newline="", encoding="latin-1") as file:
        theirs = [row[3:] for row in csv.reader(file)][1:]
    assert len(ours) == len(theirs) == 42

    for number, (record, row) in enumerate(zip(ours, theirs), 1):
        expected = list(row)
        if number in ON_ALL_LISTS["root"]:
            expected[5:8] = [".", ".", "."]
        if number in ON_ALL_LISTS["case"]:
            expected[5:8] = [text.lower() for text in expected[5:8]]
            # A watch list hit; google.com is common, seen before, and com is not scored.
            expected[9:] = {6: ["35", "bd"], 39: ["0", "d"], 40: ["0", "d"]}[number]
        elif number in ON_ALL_LISTS["server"]:
            flags = "" if expected[10] == "None" else expected[10]
            expected[10] = f"{flags[:-1]}dt" if flags.endswith("t") else f"{flags}d"
        assert [str(value) for value in record[2:13]] == expected, number
        named = any(number in rows for rows in ON_ALL_LISTS.values())
        assert (expected != row) == named, number
