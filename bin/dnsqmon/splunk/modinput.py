"""The Splunk face: Splunk's XML to Settings, records to its XML stream, errors to its log."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import signal
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splunklib.modularinput import Argument, EventWriter, Scheme, Script

from dnsqmon.config.settings import Settings, table
from dnsqmon.core.errors import DnsqmonError
from dnsqmon.splunk.sink import EventStream
from dnsqmon.splunk.stanza import SplunkInput, check, parameter, read_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

SCHEME = "dns_query_monitor"
#: The app's folder: lookups/ beside bin/.
APP = Path(__file__).resolve().parents[3]

_LOG_BYTES = 5_000_000
log = logging.getLogger("dnsqmon")


def main(argv: Sequence[str]) -> int:
    """Do what splunkd asks for: `--scheme`, `--validate-arguments`, or, without either, run.

    Returns the exit code: 0 done or told to stop, 1 it failed or was refused.
    """
    _log_to_stderr()
    face = ModularInput()
    asked = b"" if "--scheme" in argv else _standard_input()
    if not asked and "--scheme" not in argv:
        log.error(
            "nothing on standard input: splunkd starts this script; to try it by hand give it the "
            "output of `splunk cmd splunkd print-modinput-config %s %s://<input>`",
            SCHEME,
            SCHEME,
        )
        return 1
    writer = EventWriter(sys.stdout, sys.stderr)
    code: int = face.run_script(list(argv), writer, io.BytesIO(asked))
    # The SDK leaves the last line of a traceback open.
    sys.stderr.write("\n" if code and not face.failed else "")
    return 1 if face.failed else code


def _standard_input() -> bytes:
    """Read standard input to its end; nothing where it is closed."""
    try:
        return sys.stdin.buffer.read() if sys.stdin else b""
    except OSError:
        return b""


class ModularInput(Script):  # type: ignore[misc] # splunklib has no types
    """What splunklib calls back."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = False

    def get_scheme(self) -> Scheme:
        """Describe the input and its parameters, which are the table of settings."""
        scheme = Scheme("DNS Query Monitor")
        scheme.description = "Captures DNS queries and scores their domains."
        scheme.use_external_validation = True
        # A process for each input: they run side by side, each on a core of its own.
        scheme.use_single_instance = False
        scheme.streaming_mode = Scheme.streaming_mode_xml
        defaults = Settings()
        for name, row in table().items():
            if row.splunk:
                argument = Argument(parameter(name), row.splunk_help or row.help)
                argument.title = parameter(name).replace("_", " ").capitalize()
                argument.data_type = _data_type(getattr(defaults, name))
                scheme.add_argument(argument)
        return scheme

    def validate_input(self, definition: Any) -> None:  # noqa: ANN401 - splunklib has no types
        """Refuse parameters that could not run, with the command line's own sentence."""
        check(read_parameters(definition.parameters, APP / "lookups"))

    def stream_events(self, inputs: Any, ew: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Run every input until it ends or splunkd ends it."""
        stream = EventStream(open(1, "wb", buffering=0, closefd=False))  # noqa: SIM115 - fd 1 is splunkd's
        folder = Path(inputs.metadata["checkpoint_dir"])
        _log_to_file(list(inputs.inputs))
        running = [
            SplunkInput(stanza, parameters, stream, folder, APP / "lookups")
            for stanza, parameters in inputs.inputs.items()
        ]
        _stop_on_signals(running)
        threads = [
            threading.Thread(target=self._run, args=(each,), name=each.stanza) for each in running
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            stream.close()
        except DnsqmonError as error:
            self._fail(str(error))

    def _run(self, each: SplunkInput) -> None:
        """Run one input; whatever happens to it ends in one line of the log."""
        try:
            each.run()
        except DnsqmonError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - this is the face: nothing ends in a crash loop
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
            self._fail(f"unexpected {type(error).__name__}: {error} at {where}")

    def _fail(self, text: str) -> None:
        self.failed = True
        log.error("%s", " ".join(text.split()))


def _data_type(default: object) -> str:
    """Name the type of a parameter in the scheme's words."""
    if isinstance(default, bool):
        return str(Argument.data_type_boolean)
    return str(Argument.data_type_number if isinstance(default, int) else Argument.data_type_string)


def _stop_on_signals(running: Sequence[SplunkInput]) -> None:
    """SIGTERM, which splunkd sends, and SIGINT end every input with everything written."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for each in running:
            each.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


class _SplunkFormatter(logging.Formatter):
    """Names levels as splunkd does, and the input that a line is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        record.levelname = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(
            record.levelname, record.levelname
        )
        record.about = f'input="{record.threadName}" ' if "://" in (record.threadName or "") else ""
        return super().format(record)


def _log_to_stderr() -> None:
    """Send the program's log to standard error, from where it comes into splunkd.log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SplunkFormatter("%(levelname)s %(about)s%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _file_name(stanza: str) -> str:
    """Name an input's file; one whose name a file cannot bear gets a mark of its own."""
    name = stanza.partition("://")[2]
    plain = re.sub(r"[^0-9A-Za-z_-]+", "_", name)[:40]
    return plain if plain == name else f"{plain}-{hashlib.sha256(stanza.encode()).hexdigest()[:8]}"


def _log_to_file(stanzas: Sequence[str]) -> None:
    """Keep a log where Splunk indexes it into _internal; splunkd.log gets warnings and errors."""
    folder = Path(os.environ.get("SPLUNK_HOME", "")) / "var/log/splunk"
    if "SPLUNK_HOME" not in os.environ or not os.access(folder, os.W_OK):
        return
    handler = RotatingFileHandler(
        folder / f"dnsqmon_{_file_name(stanzas[0]) if stanzas else 'input'}.log",
        maxBytes=_LOG_BYTES,
        backupCount=2,
        delay=True,
    )
    formatter = _SplunkFormatter(
        "%(asctime)s,%(msecs)03d +0000 %(levelname)s %(about)s%(message)s", "%Y-%m-%d %H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    log.handlers[0].setLevel(logging.WARNING)
    log.addHandler(handler)
