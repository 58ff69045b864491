"""Appends records to a CSV file with the original's header and 14 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsqmon.core.record import COLUMNS
from dnsqmon.sinks.line_file import LineFile

if TYPE_CHECKING:
    import os


class CsvFile(LineFile):
    """The sink of `-w csv`: a file of the original's is appended to, under its one header.

    Raises ConfigError where `path` cannot be appended to, or is not a file of these columns.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, "csv", ",".join(COLUMNS))
