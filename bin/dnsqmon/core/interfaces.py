"""What the pipeline asks of a source and of a sink, and what a sink is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dnsqmon.core.record import FrameBatch, Record


class RecordBatch(Protocol):
    """Records of at most about a second, and their text in each format, rendered once."""

    @property
    def records(self) -> Sequence[Record]:
        """The records, oldest first."""

    def lines(self, form: str) -> Sequence[str]:
        """One text a record, without a line end, in the format `form` of `render.FORMATS`."""

    def rows(self) -> Sequence[tuple[object, ...]]:
        """Return the 14 values of `record.COLUMNS` of each record; numbers are int."""


class Source(Protocol):
    """Where frames come from."""

    name: str

    def batches(self) -> Iterator[FrameBatch]:
        """Yield frames until the end of the file, or until `stop`.

        A live source yields at least every half second, if need be an empty batch, so that what
        is timed goes on. May raise SourceError.
        """

    def losses(self) -> Mapping[str, int]:
        """Packets that were lost before this source could yield them, by reason."""

    def counts(self) -> Mapping[str, int]:
        """Return what else the source counted, none of it a loss (statistics.SOURCE_COUNTS)."""

    def stop(self) -> None:
        """Make `batches` end after the frames already captured; called from a signal handler."""

    def close(self) -> None:
        """Release files and sockets."""


class Sink(Protocol):
    """Where records go."""

    name: str

    def write(self, batch: RecordBatch) -> None:
        """Take every record of the batch, or raise SinkError with the number it did not take.

        Returns at once: a sink that can be slow keeps what it accepted and sends in its own thread.
        """

    def counts(self) -> Mapping[str, int]:
        """`written`, `waiting` and `lost_<reason>`: together, all records that were accepted."""

    def close(self) -> None:
        """Write what waits, within two seconds, and release; may raise SinkError."""
