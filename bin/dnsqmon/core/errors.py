"""The tree of errors, and what each one means to the person who reads it.

DnsqmonError
├── ConfigError     what the user asked for cannot be done as written     exit 2
│   └── NotACaptureError    the file to read is something else            exit 2
├── SourceError     a source stopped giving packets                       exit 1
└── SinkError       a sink did not take records                           exit 1, or a counted loss
    └── ClosedOutputError    the reader of standard output went away      exit 1, in silence

A hostile packet is none of these: it is a counter (see `counters`).
"""

from __future__ import annotations


class DnsqmonError(Exception):
    """Root of every error this program raises on purpose; never raised itself."""


class ConfigError(DnsqmonError):
    """A setting, a list, a profile or an input file that cannot be used.

    The text names the setting, its value and the fix; for files `where` is `path` or `path:line`.
    """

    def __init__(self, text: str, *, where: str | None = None) -> None:
        super().__init__(f"{where}: {text}" if where else text)


class NotACaptureError(ConfigError):
    """An input file that is no capture, and will not become one by trying again."""


class SourceError(DnsqmonError):
    """A source that worked stopped: an interface is gone, a right was taken away."""


class SinkError(DnsqmonError):
    """A sink could not take a batch; what it took before stays whole.

    `lost` is how many records of the batch it did not take.
    """

    def __init__(self, text: str, *, lost: int = 0) -> None:
        super().__init__(text)
        self.lost = lost


class ClosedOutputError(SinkError):
    """Whoever read standard output, `head` for one, has had enough."""

    def __init__(self, *, lost: int = 0) -> None:
        super().__init__("standard output was closed", lost=lost)
