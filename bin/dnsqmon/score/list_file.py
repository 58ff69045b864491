"""The text of a list file, into its entries and the lines that could not be read."""

from __future__ import annotations

import csv
import ipaddress
import re
from collections import Counter
from typing import TYPE_CHECKING

from dnsqmon.core.names import MAX_NAME, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: How many of the lines that could not be read are named one by one.
NAMED = 20

# What most lines of a large list are: a name in the record's own form, taken as it stands.
_is_plain = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*").fullmatch
# A name as people write it; any other ASCII character belongs to a URL, a port, a filter rule.
_spelled = re.compile(r"(?:[^\x00-\x7f]|[A-Za-z0-9_.-]|\\.)*")
_unreadable = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\udc80-\udcff]").search
# What a hosts file calls the machine itself, as a name or as an address.
_is_own = re.compile(
    r"local|localhost|localhost\.localdomain|broadcasthost|ip6-[a-z]+|[0-9.]+"
).fullmatch
_comment = re.compile(r"\s#")
_HINTS = {
    "*": "wildcards are not matched, list each name",
    ",": "a comma, but the first line names no such column",
    ":": "not a domain name but a URL, a port or an address",
    "/": "not a domain name but a URL or a network",
}


class Skipped:
    """The lines of a list that could not be read: the first few by name, all by reason."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: list[str] = []
        self.reasons: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many entries were skipped."""
        return sum(self.reasons.values())

    def add(self, number: int, reason: str) -> None:
        """Count an entry of line `number` as skipped."""
        self.reasons[reason] += 1
        if len(self.lines) < NAMED:
            self.lines.append(f"{self.path}:{number}: {reason}")

    def messages(self) -> list[str]:
        """Return `path:line: reason` for the first few lines, and a last line for the others."""
        more = self.count - len(self.lines)
        return [*self.lines, f"{self.path}: {more} more skipped"] if more else list(self.lines)


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and stripped text of each line but blank ones and those after a `#`."""
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and line[0] != "#":
            yield number, line


def cells(
    entries: Iterator[tuple[int, str]], column: str, skipped: Skipped
) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each entry of `numbered` lines.

    Where the first line is a CSV header that names `column`, that is the column's field of each
    other line; else whole lines, up to a comment that follows white space.
    """
    for number, first in entries:
        header = [name.strip().lower() for name in first.replace('"', "").split(",")]
        if column in header:
            yield from column_of(entries, header.index(column), skipped)
        else:
            yield number, _comment.split(first, 1)[0].rstrip()
        break
    for number, line in entries:
        yield number, _comment.split(line, 1)[0].rstrip() if "#" in line else line


def column_of(
    entries: Iterable[tuple[int, str]], position: int, skipped: Skipped
) -> Iterator[tuple[int, str]]:
    """Yield line number and one field of each CSV record, fields counted from 0.

    A record is one line: a stray quote then costs that line, and not the rest of the file.
    """
    for number, line in entries:
        try:
            fields = next(csv.reader([line], strict=True)) if '"' in line else line.split(",")
            yield number, fields[position].strip()
        except csv.Error as error:
            skipped.add(number, f"not a CSV record: {error}")
        except IndexError:
            skipped.add(number, f"fewer than {position + 1} columns")


def domain_names(entries: Iterable[tuple[int, str]], skipped: Skipped) -> Iterator[str]:
    """Yield the domain names of the entries in the record's form; what is none goes to `skipped`.

    An entry may be a line of a hosts file, an address and names; the names of the machine itself
    are left out.
    """
    for number, entry in entries:
        if _is_plain(entry) and len(entry) < MAX_NAME - 1:
            yield entry
            continue
        words = entry.split()
        if len(words) > 1 and is_address(words[0]):
            words = [word for word in words[1:] if not _is_own(word.lower())]
        elif len(words) != 1:
            skipped.add(number, "more than one word" if words else "empty")
            continue
        for word in words:
            try:
                yield domain_name(word)
            except ValueError as error:
                skipped.add(number, str(error))


def domain_name(word: str) -> str:
    """Turn one word of a list into the record's form, or raise ValueError with the reason."""
    if len(word) > 4 * MAX_NAME:
        reason = f"name of more than {MAX_NAME} octets"
    elif _unreadable(word):
        reason = "not UTF-8 text, or a control character"
    elif (match := _spelled.match(word)) and (rest := word[match.end() :]):
        reason = _HINTS.get(rest[0], f"{rest[0]} is not part of a domain name")
    else:
        return normalise(word)
    raise ValueError(reason)


def is_address(text: str) -> bool:
    """Say whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
