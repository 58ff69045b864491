"""`score.domain`: the second-level domain of a name, by either rule."""

from __future__ import annotations

import pytest

from dnsqmon.score import domain
from dnsqmon.score.domain import SLD_RULES, last_two_labels, registrable_domain


@pytest.mark.parametrize(
    ("name", "sld"),
    [
        (".", "."),
        ("com", "com"),
        ("localhost", "localhost"),
        ("google.com", "google.com"),
        ("www.google.com", "google.com"),
        ("www.bbc.co.uk", "co.uk"),
        ("1.0.0.10.in-addr.arpa", "in-addr.arpa"),
        ("b.e.e.f.ip6.arpa", "ip6.arpa"),
        (r"a\046b.example.org", "example.org"),
        (r"www.a\046b.org", r"a\046b.org"),
    ],
)
def test_last_two_labels(name: str, sld: str) -> None:
    """The original's SLD is the last two labels; an escaped dot is part of its label."""
    assert last_two_labels(name) == sld


@pytest.mark.parametrize(
    ("name", "sld"),
    [
        (".", "."),
        ("com", "com"),
        ("localhost", "localhost"),
        ("www.google.com", "google.com"),
        ("uk", "uk"),
        ("co.uk", "co.uk"),
        ("bbc.co.uk", "bbc.co.uk"),
        ("www.bbc.co.uk", "bbc.co.uk"),
        ("_dmarc.bbc.co.uk", "bbc.co.uk"),
        # A wildcard rule and its exceptions.
        ("a.b.ck", "a.b.ck"),
        ("x.www.ck", "www.ck"),
        ("a.city.kawasaki.jp", "city.kawasaki.jp"),
        # A TLD that the list does not know has one label below it, as any other.
        ("a.b.nosuchtld", "b.nosuchtld"),
        # Internationalised suffixes are matched in their A-label form.
        ("b.a.xn--55qx5d.cn", "a.xn--55qx5d.cn"),
        # The private section of the list is left out.
        ("d1.cloudfront.net", "cloudfront.net"),
        ("bucket.s3.amazonaws.com", "amazonaws.com"),
        # Reverse names stay under one SLD each, or every address would be first seen.
        ("1.0.0.10.in-addr.arpa", "in-addr.arpa"),
        ("in-addr.arpa", "in-addr.arpa"),
        ("b.e.e.f.ip6.arpa", "ip6.arpa"),
        ("arpa", "arpa"),
        (r"a\046b.co.uk", r"a\046b.co.uk"),
    ],
)
def test_registrable_domain(name: str, sld: str) -> None:
    """By the Public Suffix List, co.uk is a suffix and bbc.co.uk the SLD; twice the same answer."""
    rule = registrable_domain()
    assert [rule(name), rule(name)] == [sld, sld]


def test_memory_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many names are remembered as may be, they are forgotten; answers stay right."""
    monkeypatch.setattr(domain, "MAX_CACHED", 3)
    rule = registrable_domain()
    names = [f"www.site-{number}.co.uk" for number in range(10)]
    assert [rule(name) for name in names * 2] == [name[4:] for name in names * 2]


def test_rules_by_their_names() -> None:
    """A profile's `sld` names either rule."""
    answers = {name: make()("www.bbc.co.uk") for name, make in SLD_RULES.items()}
    assert answers == {"last-two-labels": "co.uk", "public-suffix-list": "bbc.co.uk"}
