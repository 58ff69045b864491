"""`dnsqmon lists import`: published rankings, hosts files and feeds into our CSV of domains."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Callable

from dnsqmon.core.errors import ClosedOutputError, ConfigError, SinkError
from dnsqmon.score.domain import registrable_domain
from dnsqmon.score.list_file import (
    Skipped,
    cells,
    column_of,
    domain_names,
    is_address,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What is written: the columns of the watch list, of which the common list has the first two.
COLUMNS = ("domain", "category", "source", "description")

Entries = Iterator[tuple[int, str]]


def run(arguments: argparse.Namespace) -> int:
    """Import the file, account for its lines on standard error, give the exit code 0.

    Raises ConfigError where a file cannot be read or written, or holds no domain name at all.
    """
    path: str = arguments.source_file
    skipped = Skipped(path)
    tally = Tally()
    entries = FORMATS[arguments.format](numbered(tally.counted(_lines(path))), skipped)
    names: Iterable[str] = domain_names(entries, skipped)
    if arguments.registrable:
        names = tally.registrable(names)
    with _output(arguments.output) as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(COLUMNS)
        for name in islice(tally.distinct(names), arguments.top):
            rows.writerow((name, arguments.category, arguments.source, ""))
        report = (*skipped.messages(), *tally.lines(skipped))
        sys.stderr.writelines(f"{line}\n" for line in report)
        if not tally.kept:
            raise ConfigError(f"no domain name in it (--format {arguments.format})", where=path)
    return 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("source_file", metavar="SOURCE_FILE", help="the list, plain, zip or gzip")
    parser.add_argument("-o", "--output", metavar="OUT", help="CSV file (default: standard output)")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="auto",
        help="tranco and umbrella: lines of rank,domain; majestic: CSV with a column Domain; "
        "hosts, plain: lines of names (default: auto, by the first line)",
    )
    parser.add_argument("--top", type=_positive, metavar="N", help="keep only the first N names")
    parser.add_argument(
        "--registrable",
        action="store_true",
        help="reduce each name to its registrable domain, which a common list is compared with",
    )
    parser.add_argument("--category", default="", metavar="TEXT", help="for the column category")
    parser.add_argument("--source", default="", metavar="TEXT", help="for the column source")


class Tally:
    """What became of the lines of the file."""

    def __init__(self) -> None:
        self.read = 0
        self.kept = 0
        self.repeated = 0
        self.suffixes = 0

    def counted(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass the lines on."""
        for line in lines:
            self.read += 1
            yield line

    def registrable(self, names: Iterable[str]) -> Iterator[str]:
        """Pass on the second-level domain of each name, as the scorer takes it, but no bare suffix.

        A public suffix is its own second-level domain, and so is every name right below it.
        """
        sld_of = registrable_domain()
        for name in names:
            domain = sld_of(name)
            if (name[-1].isdigit() and is_address(name)) or (
                domain == name and sld_of(f"x.{name}") != name
            ):
                self.suffixes += 1
            else:
                yield domain

    def distinct(self, names: Iterable[str]) -> Iterator[str]:
        """Pass each name on where it comes first."""
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self.repeated += 1
            else:
                seen.add(name)
                self.kept += 1
                yield name

    def lines(self, skipped: Skipped) -> list[str]:
        """Say it in words, one fact a line."""
        reasons = Counter(skipped.reasons)
        reasons["named before"] = self.repeated
        reasons["no registrable domain"] = self.suffixes
        left_out = [f"  left out {n}: {reason}" for reason, n in reasons.most_common() if n]
        return [f"{skipped.path}: {self.read} lines read, {self.kept} names kept", *left_out]


def _ranked(entries: Entries, skipped: Skipped) -> Entries:
    """Read `rank,domain`, as Tranco and Cisco Umbrella publish."""
    return column_of(entries, 1, skipped)


def _listed(entries: Entries, skipped: Skipped) -> Entries:
    """Read what the program's own lists may be; Majestic's CSV has a column Domain as well."""
    return cells(entries, "domain", skipped)


def _recognised(entries: Entries, skipped: Skipped) -> Entries:
    """Read the form that the first line shows."""
    first = list(islice(entries, 1))
    read = _ranked if first and re.match(r'"?\d+"?,', first[0][1]) else _listed
    return read(chain(first, entries), skipped)


FORMATS: dict[str, Callable[[Entries, Skipped], Entries]] = {
    "auto": _recognised,
    "tranco": _ranked,
    "umbrella": _ranked,
    "majestic": _listed,
    "hosts": _listed,
    "plain": _listed,
}


# What reading a file, or one that is no sound gzip or zip file, raises.
_BROKEN = (
    OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile,
    RuntimeError, IndexError, struct.error,  # zipfile: encrypted, newer than it knows, no name
)  # fmt: skip


def _lines(path: str) -> Iterator[str]:
    """Read the lines of the file, unpacked where it is packed."""
    try:
        with Path(path).open("rb") as file:
            unpacked = _unpacked(file, path)
            with io.TextIOWrapper(unpacked, "utf-8-sig", "surrogateescape") as lines:
                yield from lines
    except _BROKEN as error:
        raise ConfigError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}", where=path
        ) from error


def _unpacked(file: IO[bytes], path: str) -> IO[bytes] | gzip.GzipFile:
    """Return the content of a gzip file, of a zip file's only member, or the file as it is."""
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(file)
    if magic != b"PK\x03\x04":
        return file
    archive = zipfile.ZipFile(file)
    members = [member for member in archive.infolist() if not member.is_dir()]
    readable = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if len(members) != 1 or members[0].compress_type not in readable:
        raise ConfigError(
            "a zip file of something else than one deflated file; unpack it first", where=path
        )
    return archive.open(members[0])


@contextmanager
def _output(path: str | None) -> Iterator[IO[str]]:
    """Open the file to write; it takes its place when it is whole, for a sensor may be reading."""
    if path is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise ClosedOutputError from None
        except OSError as error:
            raise SinkError(f"cannot write to standard output: {error.strerror}") from None
        return
    target = Path(path).resolve()
    whole = target if target.exists() and not target.is_file() else Path(f"{target}.new")
    try:
        with whole.open("w", encoding="utf-8", newline="") as out:
            yield out
        whole.replace(target)
    except OSError as error:
        raise ConfigError(
            f"-o {path}: {error.strerror}; name a file that can be written"
        ) from error
    finally:
        if whole != target:
            whole.unlink(missing_ok=True)


def _positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,9}", text):
        raise argparse.ArgumentTypeError("give a whole number from 1")
    return int(text)
