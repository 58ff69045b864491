"""What is on the other end of a network sink: its TLS, and how sending to it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from dnsqmon.core.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from dnsqmon.sinks.spool import Chunk


def tls_context(
    *, ca: str | None, certificate: str | None, key: str | None, verify: bool
) -> ssl.SSLContext:
    """Make the client's TLS settings: TLS 1.2 or later, the peer verified.

    `ca` is a PEM file in place of the system's CAs. `key` may be left out where `certificate`
    holds both. May raise ConfigError.
    """
    import ssl  # noqa: PLC0415 - it costs a tenth of the start

    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"--tls-ca: no CA certificates could be read ({error}); give a PEM file", where=ca
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"--tls-cert: no certificate with its key could be read ({error}); "
                "give PEM files, the key in --tls-key or in the same file",
                where=certificate,
            ) from error
    return context


class Unavailable(Exception):  # noqa: N818 - a state of the destination, not an error of the program
    """The destination cannot be reached or does not take more now; what was sent is sent again."""


class Batch(NamedTuple):
    """Lines on their way: whole chunks of a spool, and their lines without line ends."""

    chunks: Sequence[Chunk]
    lines: Sequence[bytes]
    size: int


class Settled(NamedTuple):
    """A batch that will not be sent again, and how many of its lines were lost, by reason."""

    batch: Batch
    lost: Mapping[str, int]


class Destination(Protocol):
    """One connection to a receiver, driven by one thread. Every method may raise Unavailable."""

    name: str
    #: The most that `send` is given at once.
    most_lines: int
    most_bytes: int
    #: How long (seconds) lines may wait for company before they are sent.
    linger: float

    def connect(self) -> None:
        """Make ready to send; called again after every Unavailable."""

    def send(self, batch: Batch) -> None:
        """Hand the lines to the receiver; they are settled by and by."""

    def settled(self) -> Sequence[Settled]:
        """Return the batches that became settled since the last call; do not wait for more."""

    def finish(self, seconds: float) -> Sequence[Settled]:
        """End in order: wait up to `seconds` for what was sent to settle, and give that."""

    def disconnect(self) -> None:
        """Drop the connection; also called from another thread to end a call that hangs."""
