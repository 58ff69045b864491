"""`score.profile`: the profiles that ship, profiles of one's own, and how bad ones are refused."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import dnsqmon.score.profile
from dnsqmon.core.errors import ConfigError
from dnsqmon.score.profile import load_profile
from traffic import query, sensor, take

if TYPE_CHECKING:
    from pathlib import Path

# The table that the original published (dnsQmon.py, 148 top-level domains), by points.
PUBLISHED = {
    5: "ae af ag al am as az ba bg bo bs cat ci cr dm ec edu fi fm fo gd ge gg gi gov gp gs gt hm "
    "hn hr ie io is jo ke kg kw la lu ma md mk mn mu nf ng no np nr pa pe ph pk pn pw py rs sa sc "
    "sd sh si so tf tg tl tm tt tz ug uz vc ve vu",
    10: "ai by bz ca ch cl cm cx dk ee gr hk hu id il im ir jp kz li lt lv me mobi mx my nz pt se "
    "sg sk tc th to tr vg vn za",
    15: "ar asia at au cz es ms nu pro ro su tw ws",
    20: "be biz br co de eu fr it kr name nl pl tk tv ua uk us",
    25: "cc cn in info",
    35: "ru",
}
UNSCORED = ("com", "net", "org", "arpa")
POINTS_OF = {tld: points for points, tlds in PUBLISHED.items() for tld in tlds.split()}

GOOD = """\
sld: last-two-labels
points:
  uncommon: 1
  watch: 2
  first_seen: 4
  long: 8
  short: 16
  server: 32
long_from: 20
short_to: 3
tld:
  unscored: [com]
  other: 64
  points:
    128: [ru, no]
"""


def test_published_table_is_whole() -> None:
    """The table has the original's 148 TLDs, each once, and the profile no other."""
    assert len(POINTS_OF) == sum(len(tlds.split()) for tlds in PUBLISHED.values()) == 148
    assert Counter(POINTS_OF.values()) == {5: 75, 10: 38, 15: 13, 20: 17, 25: 4, 35: 1}
    assert set(load_profile("weighted").tlds) == {*POINTS_OF, *UNSCORED}


@pytest.mark.parametrize(
    ("profile", "points_of", "other"),
    [("weighted", POINTS_OF, 0), ("classic", {"ru": 35, **dict.fromkeys(UNSCORED, 0)}, 1)],
)
def test_points_of_every_tld(profile: str, points_of: dict[str, int], other: int) -> None:
    """`weighted` gives the published points; `classic` 35 to ru, 0 to four TLDs, 1 to others."""
    stages = sensor(profile=profile)
    for tld in [*POINTS_OF, *UNSCORED, "museum", "xn--p1ai"]:
        points = points_of.get(tld, other)
        (record,) = take(stages, query(f"long-enough.site-name.{tld}"))
        assert record[11:13] == (5 + points, "ft" if points else "f"), tld
        assert record[15] == ({"first_seen": 5, "tld": points} if points else {"first_seen": 5})


def test_profile_of_ones_own(tmp_path: Path) -> None:
    """Every number of a profile file takes effect, and YAML does not read `no` as false."""
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    stages = sensor(profile=str(path))
    scores = [record[11] for record in take(
        stages, query("ru"), query("no"), query("long.enough.name.com"), query("a.museum"),
    )]  # fmt: skip
    assert scores == [4 + 16 + 128, 4 + 16 + 128, 4 + 8, 4 + 64]


def test_profiles_that_ship_are_found_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is a profile that ships, before a file of that name in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classic").write_text("sld: nonsense\n")
    assert load_profile("classic").other_tld == 1
    assert load_profile("weighted").other_tld == 0


def test_copies_of_the_shipped_profiles_load(tmp_path: Path) -> None:
    """The files that ship are the pattern for one's own: a copy gives the same points."""
    folder = dnsqmon.score.profile.__file__.rpartition("/")[0]
    for name in ("classic", "weighted"):
        copy = shutil.copy(f"{folder}/profiles/{name}.yaml", tmp_path)
        mine, shipped = load_profile(str(copy)), load_profile(name)
        assert (mine.points, mine.tlds, mine.other_tld) == (
            shipped.points, shipped.tlds, shipped.other_tld,
        )  # fmt: skip
        assert (mine.long_from, mine.short_to) == (shipped.long_from, shipped.short_to)


def test_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is neither a profile nor a file is refused."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_profile("clasic")
    assert str(caught.value) == (
        "--profile clasic: No such file or directory; name a YAML file that can be read"
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("sld: last-two-labels", "sld: psl",
         ":1: sld must be one of last-two-labels, public-suffix-list"),
        ("sld: last-two-labels", "sld: [last-two-labels]",
         ":1: sld must be one of last-two-labels, public-suffix-list"),
        ("sld: last-two-labels", "sld: {a: b}",
         ":1: sld must be one of last-two-labels, public-suffix-list"),
        ("sld: last-two-labels\n", "", ":1: the profile: sld is missing"),
        ("long_from: 20\n", "", ":1: the profile: long_from is missing"),
        ("  watch: 2\n", "", ":3: points: watch is missing"),
        ("  other: 64\n", "", ":12: tld: other is missing"),
        ("  watch: 2", "  watched: 2",
         ":4: points: unknown watched; known are uncommon, watch, first_seen, long, short, server"),
        ("  watch: 2", "  watch: 2\n  watch: 3", ":5: points: watch stands here twice"),
        ("  watch: 2", "  watch: -2", ":4: points watch must be a whole number from 0 to 1000"),
        ("  watch: 2", "  watch: many", ":4: points watch must be a whole number from 0 to 1000"),
        ("  watch: 2", "  watch: 1001", ":4: points watch must be a whole number from 0 to 1000"),
        ("  watch: 2", "  watch: [2]", ":4: points watch must be a whole number from 0 to 1000"),
        ("short_to: 3", "short_to: 256", ":10: short_to must be a whole number from 0 to 255"),
        ("long_from: 20", "long_from: 1.5", ":9: long_from must be a whole number from 0 to 255"),
        ("  other: 64", "  other: x", ":13: tld other must be a whole number from 0 to 1000"),
        ("[com]", "[COM]",
         ":12: tld unscored: COM must be a lower-case TLD that stands here once"),
        ("[com]", "[com, com]",
         ":12: tld unscored: com must be a lower-case TLD that stands here once"),
        ("[com]", "[com, ru]",
         ":15: tld points 128: ru must be a lower-case TLD that stands here once"),
        ("[ru, no]", "[.ru]",
         ":15: tld points 128: .ru must be a lower-case TLD that stands here once"),
        ("[ru, no]", "[рф]",
         ":15: tld points 128: рф must be a lower-case TLD that stands here once"),
        ("[ru, no]", "", ":15: tld points 128:  must be a lower-case TLD that stands here once"),
        ("[ru, no]", "{ru: no}", ":15: tld points 128 must be one value or a list of values"),
        ("128: ", "many: ", ":15: tld points: many must be a whole number from 0 to 1000"),
        ("128: ", "1001: ", ":15: tld points: 1001 must be a whole number from 0 to 1000"),
        ("128: ", f"{'9' * 12}: ",
         f":15: tld points: {'9' * 12} must be a whole number from 0 to 1000"),
        ("  points:\n    128: [ru, no]", "  points: ru",
         ":14: tld points must be `name: value` lines"),
        ("points:\n  uncommon", "points: 5\npoints2:\n  uncommon",
         ":3: the profile: unknown points2; known are sld, points, long_from, short_to, tld"),
    ],
)  # fmt: skip
def test_bad_profile(tmp_path: Path, old: str, new: str, text: str) -> None:
    """Each mistake is refused with path, line and reason."""
    assert GOOD.count(old) == 1
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert str(caught.value) == f"{path}{text}"
