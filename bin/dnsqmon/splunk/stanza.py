"""One input of Splunk: its parameters to a running pipeline whose records are Splunk's events."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from dnsqmon import __version__
from dnsqmon.assembly.assemble import assemble, make_sensor
from dnsqmon.assembly.network import read_secrets
from dnsqmon.config.settings import Settings, check_sources, read_settings, table
from dnsqmon.core.counters import Counters
from dnsqmon.core.errors import ConfigError, NotACaptureError, SinkError, SourceError
from dnsqmon.splunk.checkpoint import Checkpoint
from dnsqmon.splunk.sink import SplunkSink
from dnsqmon.splunk.statistics import SplunkStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dnsqmon.pipeline import Pipeline
    from dnsqmon.splunk.checkpoint import Capture
    from dnsqmon.splunk.sink import EventStream

#: Parameters whose own name Splunk has taken: the name of an input is its stanza's.
_PARAMETERS = {"name": "node_name"}
_LISTS = ("watchlist", "commonlist", "serverlist")
_SWITCH = {
    **dict.fromkeys(("1", "true", "t", "yes", "y"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n"), False),
}

log = logging.getLogger(__name__)


def parameter(name: str) -> str:
    """Return the name of a setting as a parameter in inputs.conf."""
    return _PARAMETERS.get(name, name)


def read_parameters(parameters: Mapping[str, str | None], lookups: Path) -> Settings:
    """Parse the parameters of an input; raises ConfigError. Empty ones have their defaults.

    A list without a folder is one of the app's `lookups`. Splunk's own parameters (index, host,
    interval ...) are not looked at.
    """
    values: dict[str, object] = {}
    defaults = Settings()
    for name, row in table().items():
        text = (parameters.get(parameter(name)) or "").strip() if row.splunk else ""
        if not text:
            continue
        if isinstance(getattr(defaults, name), bool):
            if text.lower() not in _SWITCH:
                raise ConfigError(f"{parameter(name)} {text}: give true or false")
            values[name] = _SWITCH[text.lower()]
        elif name in _LISTS and "/" not in text:
            values[name] = str(lookups / text)
        else:
            values[name] = text
    settings = read_settings(values)
    check_sources(settings)
    return settings


def check(settings: Settings) -> None:
    """Try what running would need, and let it go again; raises ConfigError.

    The port of a relay is not tried: the input that is being edited may hold it.
    """
    if settings.server:
        read_secrets(settings, None)
    elif settings.read and Path(settings.read).is_dir():
        make_sensor(settings, Counters())
    else:
        assemble(settings, io.StringIO()).source.close()


class SplunkInput:
    """Runs one stanza; what it has to remember lies in `checkpoints`, a folder."""

    def __init__(
        self,
        stanza: str,
        parameters: Mapping[str, str | None],
        stream: EventStream,
        checkpoints: Path,
        lookups: Path,
    ) -> None:
        self.stanza = stanza
        self._parameters = parameters
        self._stream = stream
        self._checkpoints = checkpoints
        self._lookups = lookups
        self._pipeline: Pipeline | None = None
        self._stopping = False

    def run(self) -> None:
        """Run until the source ends, or until `stop`; may raise DnsqmonError."""
        settings = read_parameters(self._parameters, self._lookups)
        settings = dataclasses.replace(settings, state=str(self._file("seen.db")))
        self._sink = SplunkSink(
            self._stream,
            self.stanza,
            header=settings.syslog_header,
            minimum_score=settings.minimum_score,
        )
        self._statistics = SplunkStatistics(self._sink, self.stanza, settings)
        log.info("started, dnsqmon %s", __version__)
        try:
            if settings.read:
                self._read(settings, Path(settings.read))
            else:
                self._follow(settings)
        except SourceError:
            self._statistics.write()
            raise
        self._statistics.write()
        log.info("ended")

    def stop(self) -> None:
        """Make `run` end with everything written; called from a signal handler."""
        self._stopping = True
        if self._pipeline:
            self._pipeline.source.stop()

    def _read(self, settings: Settings, path: Path) -> None:
        """Read each capture that was not read before; what is none is told of once."""
        asked = f"types {settings.types} ports {settings.ports}"
        checkpoint = Checkpoint(self._file("captures.db"), asked)
        try:
            for capture in checkpoint.unread(path):
                if self._stopping:
                    break
                self._read_one(settings, capture, checkpoint)
        finally:
            checkpoint.close()

    def _read_one(self, settings: Settings, capture: Capture, checkpoint: Checkpoint) -> None:
        """Read a capture, and remember how far, every second too; may raise DnsqmonError."""
        self._sink.resume(after=capture.records)
        kept, marked_at = capture.records, time.monotonic()

        def mark() -> None:
            # What was written a second ago: what came since may still wait in the pipe.
            nonlocal kept, marked_at
            if time.monotonic() - marked_at >= 1:
                checkpoint.keep(capture, records=kept, done=False)
                kept, marked_at = max(kept, self._sink.taken), time.monotonic()

        try:
            self._follow(dataclasses.replace(settings, read=str(capture.path)), mark)
        except NotACaptureError as error:
            log.error("%s; it is not read again", error)
            checkpoint.keep(capture, records=0, done=True)
            return
        except SourceError as error:
            log.error("%s; it is read on in the next round", error)
            checkpoint.keep(capture, records=max(kept, self._sink.taken), done=False)
            return
        except SinkError:
            checkpoint.keep(capture, records=kept, done=False)
            raise
        done = not self._stopping
        checkpoint.keep(capture, records=max(kept, self._sink.taken), done=done)
        log.info("%s: %s", capture.path, "read" if done else "interrupted")

    def _follow(self, settings: Settings, mark: Callable[[], None] = lambda: None) -> None:
        """Run a pipeline to its end; `mark` is called after each batch."""

        def between() -> None:
            self._statistics.write_if_due()
            mark()

        self._pipeline = assemble(settings, io.StringIO())
        self._pipeline.sinks = [self._sink]
        self._statistics.follow(self._pipeline)
        if self._stopping:
            self._pipeline.source.stop()
        try:
            self._pipeline.run(between)
        finally:
            self._statistics.finish()

    def _file(self, name: str) -> Path:
        """Name a file of this input's own below the folder of checkpoints, which is made."""
        plain = re.sub(r"[^0-9A-Za-z]+", "_", self.stanza.partition("://")[2])[:40]
        digest = hashlib.sha256(self.stanza.encode()).hexdigest()[:8]
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"checkpoint_dir {self._checkpoints}: {error.strerror}") from error
        return self._checkpoints / f"{plain}-{digest}-{name}"
