"""Proof of the record types: number to mnemonic and back, and what is refused."""

from __future__ import annotations

import pytest

from dnsqmon.core.record_types import ALL_TYPES, parse_types, type_name


def test_every_number_comes_back() -> None:
    """Each of the 65,536 types has one name of its own, and the name gives the number."""
    names = [type_name(number) for number in range(65536)]
    assert len(set(names)) == 65536
    assert [parse_types(name) for name in names] == list(range(65536))


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "A"), (12, "PTR"), (28, "AAAA"), (16, "TXT"), (65, "HTTPS"), (255, "ANY"),
     (0, "TYPE0"), (54, "TYPE54"), (65280, "TYPE65280"), (65535, "TYPE65535")],
)  # fmt: skip
def test_names_of_the_registry(number: int, name: str) -> None:
    """Registered types have their mnemonic, others the form of RFC 3597."""
    assert type_name(number) == name


@pytest.mark.parametrize(
    ("text", "number"),
    [("a", 1), ("AAAA", 28), ("https", 65), ("65", 65), ("TYPE65", 65), ("type65", 65),
     ("TYPE00065", 65), ("any", 255), ("all", ALL_TYPES), ("ALL", ALL_TYPES)],
)  # fmt: skip
def test_types_as_people_write_them(text: str, number: int) -> None:
    """Mnemonics, numbers and `all` are taken in either case."""
    assert parse_types(text) == number


@pytest.mark.parametrize("text", ["", "B", "TYPE", "TYPE65536", "65536", "-1", "1.0", "A ", "٣"])
def test_what_is_no_type_is_refused(text: str) -> None:
    """Anything else gives ValueError that says what to give."""
    with pytest.raises(ValueError, match="give record types such as A"):
        parse_types(text)
