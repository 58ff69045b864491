"""The lines that tell a person how a run goes, in the original's words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dnsqmon.core.errors import ClosedOutputError, SinkError

if TYPE_CHECKING:
    from typing import TextIO

    from dnsqmon.pipeline import Pipeline


class Status:
    """Writes a status line every `seconds` to `out`, and the closing line of a file that was read.

    `file` is the name of what `-w` writes, None without; `out` is None where nobody reads.
    """

    def __init__(
        self, pipeline: Pipeline, out: TextIO | None, seconds: float, file: str | None
    ) -> None:
        self._pipeline = pipeline
        self._out = out
        self._seconds = seconds
        self._file = file
        self._due = time.monotonic() + seconds
        self._told = 0

    def show_if_due(self) -> None:
        """Write the line of a live capture when it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._seconds
            self.show("received", f" Next update in {self._seconds:.2f} seconds.")

    def show(self, verb: str = "read", ending: str = "") -> None:
        """Write `[+] Total packets read: 48 - Inspected DNS Queries: 5 (10.4%).`."""
        counters = self._pipeline.counters
        text = f"Total packets {verb}: {counters.packets} - Inspected DNS Queries: "
        text += str(counters.records)
        if counters.records:
            text += f" ({counters.records / max(counters.packets, 1) * 100:.1f}%)"
        if self._file:
            written = self._written()
            text += f" - {written - self._told} new records written to {self._file}"
            self._told = written
        self.tell(f"{text}.{ending}")

    def tell(self, text: str) -> None:
        """Write one line; may raise SinkError."""
        if self._out is None:
            return
        try:
            self._out.write(f"[+] {text}\n")
            self._out.flush()
        except BrokenPipeError as error:
            raise ClosedOutputError from error
        except OSError as error:
            raise SinkError(f"cannot write to standard output: {error.strerror}") from error

    def _written(self) -> int:
        """Count what is in the file."""
        for sink in self._pipeline.sinks:
            if sink.name in ("csv", "sqlite"):
                return sink.counts()["written"]
        return 0
