"""A capture file, plain or compressed, or a pipe that carries one, to batches of frames."""

from __future__ import annotations

import bz2
import gzip
import itertools
import logging
import lzma
import os
import select
import stat
import zlib
from typing import IO, TYPE_CHECKING, Callable, Protocol, cast

from dnsqmon.core.errors import ConfigError, NotACaptureError, SourceError
from dnsqmon.sources import pcap, pcapng

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dnsqmon.core.record import FrameBatch

log = logging.getLogger(__name__)

#: Bytes read at once: larger pieces cost memory and are no faster.
PIECE = 256 * 1024
#: What a damaged compressed stream raises, in the words of the three modules.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


class CaptureFile:
    """Read a pcap or pcapng file, which may be compressed with gzip, bzip2 or xz.

    `path` is a file, a named pipe, or `-` for standard input. Raises ConfigError when it cannot be
    opened or does not begin like a capture. A file that is cut off or damaged further on gives
    every whole record before that place, and a text in `warnings`, which is logged as well.

    `on_progress(done, total)` is called with each batch of a regular file, in bytes of that file.
    A plain pipe gives what it carries at once, and an empty batch each half second it is silent.
    """

    def __init__(self, path: str, *, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.name = "standard input" if path == "-" else path
        self.warnings: list[str] = []
        self._input = _Input(path, self.name)
        self._on_progress = on_progress if self._input.size is not None else None
        try:
            self._pieces = self._open()
            self._reader = self._choose_reader()
        except BaseException:
            self._input.close()
            raise

    def batches(self) -> Iterator[FrameBatch]:
        """Yield the frames in the file's order, at most 1,024 of one link type at a time.

        Times are exact nanoseconds, rounded down where the file is finer. Raises SourceError when
        the file cannot be read on.
        """
        for batch in self._reader.batches(self._pieces):
            if self._on_progress:
                self._on_progress(self._input.done, self._input.size or 0)
            yield batch
        if not self._input.stopped:
            for text in self._reader.warnings:
                self._warn(text)

    def losses(self) -> Mapping[str, int]:
        """Packets that the capturing system dropped, where a pcapng file tells."""
        dropped = self._reader.dropped
        return {"capture_dropped": dropped} if dropped else {}

    def counts(self) -> Mapping[str, int]:
        """Count nothing more."""
        return {}

    def stop(self) -> None:
        """Make `batches` end after what was read so far."""
        self._input.stopped = True

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._input.close()

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        log.warning("%s: %s", self.name, text)

    def _open(self) -> Iterator[bytes]:
        """Choose how to read by the first bytes of the file."""
        magic = self._input.peek(6)
        for prefix, decompressor in DECOMPRESSORS.items():
            if magic.startswith(prefix):
                return self._decompressed(decompressor(self._input))
        return self._plain()

    def _choose_reader(self) -> pcap.PcapReader | pcapng.PcapngReader:
        head = b""
        while len(head) < pcap.HEADER:
            piece = next((piece for piece in self._pieces if piece), b"")
            if not piece:
                break
            head += piece
        self._pieces = itertools.chain((head,), self._pieces)
        try:
            if head[:4] in pcap.MAGICS:
                return pcap.PcapReader(head)
            if head[:4] == pcapng.MAGIC:
                return pcapng.PcapngReader(head)
        except pcap.NotACaptureError as error:
            reason = str(error)
        else:
            reason = f"it begins with the bytes {head[:8].hex(' ')}" if head else "it is empty"
        raise NotACaptureError(
            f"is not a capture file: {reason}; "
            "give a pcap or pcapng file, plain or compressed with gzip, bzip2 or xz",
            where=self.name,
        )

    def _plain(self) -> Iterator[bytes]:
        """Yield the file in pieces; an empty one whenever a pipe has nothing to give."""
        while True:
            seconds = 0.0
            while not self._input.wait(seconds):
                yield b""
                seconds = 0.5
            piece = self._input.read(PIECE)
            if not piece:
                return
            yield piece

    def _decompressed(self, stream: _Stream) -> Iterator[bytes]:
        """Yield a compressed file's content in pieces."""
        while True:
            try:
                piece = stream.read1(PIECE)
            except DAMAGED as error:
                if not self._input.stopped:
                    self._warn(f"its compressed data is cut off or damaged: {error}")
                return
            if not piece:
                return
            yield piece


class _Input:
    """The bytes of a file or pipe: can be looked ahead in, waited for, counted and stopped.

    It has the `read` that the modules which decompress ask of a file.
    """

    def __init__(self, path: str, name: str) -> None:
        self.stopped = False
        #: Bytes read, and for a regular file bytes there are.
        self.done = 0
        self.size: int | None = None
        self._name = name
        self._ahead = b""
        standard_input = path == "-"
        try:
            self._file = open(  # noqa: SIM115 - a descriptor has no Path; `close` closes it
                0 if standard_input else path, "rb", buffering=0, closefd=not standard_input
            )
            status = os.fstat(self._file.fileno())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot be opened: {getattr(error, 'strerror', None) or error}", where=name
            ) from error
        if self._file.isatty():
            self._file.close()
            raise ConfigError("is a terminal; give a file, or pipe a capture in", where=name)
        if stat.S_ISREG(status.st_mode):
            self.size = status.st_size
        self._poll = select.poll()
        self._poll.register(self._file.fileno(), select.POLLIN)

    def peek(self, count: int) -> bytes:
        """Return the first bytes, fewer than `count` only at the end, and leave them to be read."""
        while len(self._ahead) < count:
            piece = self._read(PIECE)
            if not piece:
                break
            self._ahead += piece
        return self._ahead[:count]

    def wait(self, seconds: float) -> bool:
        """Wait until `read` would not block; say whether it would not."""
        if self._ahead or self.stopped or self.size is not None:
            return True
        return bool(self._poll.poll(seconds * 1000))

    def read(self, count: int) -> bytes:
        """Read what there is up to `count` bytes; nothing at the end, or when stopped."""
        if self._ahead:
            piece, self._ahead = self._ahead[:count], self._ahead[count:]
            return piece
        return self._read(count)

    def close(self) -> None:
        """Close the file."""
        self.stopped = True
        self._file.close()

    def _read(self, count: int) -> bytes:
        while self.size is None and not self.stopped and not self._poll.poll(500):
            pass  # so that `stop` is heard while a pipe is silent
        if self.stopped:
            return b""
        try:
            piece = os.read(self._file.fileno(), count)
        except OSError as error:
            raise SourceError(f"{self._name}: cannot be read on: {error.strerror}") from error
        self.done += len(piece)
        return piece


class _Stream(Protocol):
    """A file object that decompresses; no more than the next piece is held in memory."""

    def read1(self, size: int, /) -> bytes: ...


#: How a compressed file begins, and what reads it.
DECOMPRESSORS: dict[bytes, Callable[[_Input], _Stream]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=cast("IO[bytes]", file), mode="rb"),
    b"BZh": lambda file: bz2.BZ2File(cast("IO[bytes]", file)),
    b"\xfd7zXZ\0": lambda file: lzma.LZMAFile(cast("IO[bytes]", file)),  # noqa: SIM115
}
