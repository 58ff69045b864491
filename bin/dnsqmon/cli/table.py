"""Rows to aligned columns of text that a terminal can show safely."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Table(NamedTuple):
    """Column names, and rows of text, numbers and None."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def aligned(table: Table) -> Iterator[str]:
    """Lay a table out in columns, numbers to the right, names cut where a terminal is narrow."""
    rows = list(table.rows)
    if not rows:
        yield "No matching queries."
        return
    cells = [list(table.columns), *(["" if v is None else str(v) for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    if sys.stdout.isatty():
        names = [at for at, column in enumerate(table.columns) if column in _NAMES]
        _narrow(widths, names, shutil.get_terminal_size().columns)
    right = [all(isinstance(value, int) for value in column) for column in zip(*rows)]
    for line in cells:
        yield "  ".join(
            _cut(cell, width).rjust(width) if to_right else _cut(cell, width).ljust(width)
            for cell, width, to_right in zip(line, widths, right)
        ).rstrip()


def show(lines: Iterable[str]) -> None:
    """Print lines at once; may raise BrokenPipeError."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def printable(raw: bytes) -> str:
    r"""Decode text of a database; every byte that is not printable ASCII becomes `\DDD`.

    Our own names are escaped already; a database of the original's may hold any byte.
    """
    text = raw.decode("latin-1")
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isascii() and char.isprintable() else f"\\{ord(char):03d}" for char in text
    )


#: Columns that may be cut: the rest of a long name is in the CSV, half a date is of no use.
_NAMES = {"Domain", "SLD"}
_LEAST = 16


def _narrow(widths: list[int], names: Sequence[int], room: int) -> None:
    """Take what does not fit in `room` off the columns `names`, the widest first."""
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    while excess > 0 and any(widths[at] > _LEAST for at in names):
        widths[max(names, key=widths.__getitem__)] -= 1
        excess -= 1


def _cut(cell: str, width: int) -> str:
    """Shorten a cell to its column and show that it was."""
    return cell if len(cell) <= width else f"{cell[: width - 3]}..."
