"""Writes records as lines of text to a stream such as standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from dnsqmon.core.errors import ClosedOutputError, SinkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dnsqmon.core.interfaces import RecordBatch


class Screen:
    """A sink that writes each batch to `stream`, in the format `form` of `render.FORMATS`.

    Every format is pure ASCII, so any encoding of the stream will do. The stream stays open.
    """

    def __init__(self, stream: TextIO, form: str = "screen") -> None:
        self.name = form
        self._stream = stream
        self._form = form
        self._counts = {"written": 0, "lost_write_error": 0}

    def write(self, batch: RecordBatch) -> None:
        """Write and flush the batch; SinkError where the reader went away or the write failed."""
        lines = batch.lines(self._form)
        if not lines:
            return
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._counts["lost_write_error"] += len(lines)
            raise ClosedOutputError(lost=len(lines)) from None
        except OSError as error:
            self._counts["lost_write_error"] += len(lines)
            raise SinkError(
                f"cannot write to standard output: {error.strerror}", lost=len(lines)
            ) from None
        self._counts["written"] += len(lines)

    def counts(self) -> Mapping[str, int]:
        """Say how many records were written, and how many a failed write lost."""
        return self._counts

    def close(self) -> None:
        """Leave the stream, which is its owner's; `write` has flushed it."""
