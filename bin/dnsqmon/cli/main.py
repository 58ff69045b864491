"""The command line: argv to settings, signals to the pipeline, errors to exit codes.

Exit codes: 0 done, 1 it failed on the way, 2 the command cannot be carried out as it was given.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from dnsqmon import __version__
from dnsqmon.account.account import account, as_text
from dnsqmon.account.journal import Reports
from dnsqmon.account.status_line import Status
from dnsqmon.assembly.assemble import assemble, file_name
from dnsqmon.config.settings import Settings, check_sinks, check_sources, read_settings, table
from dnsqmon.core.errors import ClosedOutputError, ConfigError, DnsqmonError
from dnsqmon.core.garbage import collect_seldom
from dnsqmon.core.yaml_file import YamlFile
from dnsqmon.sources import privileges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from dnsqmon.pipeline import Pipeline

_DESCRIPTION = "Monitor DNS queries: read captures, score every query, write records."
_EPILOG = (
    "Other commands: `dnsqmon report queries.db` answers questions from a database that -w sql "
    "wrote; `dnsqmon lists import` makes lists of published rankings and feeds; `dnsqmon check`, "
    "with the options of a run, says what would stand in its way."
)

#: Commands beside the monitor itself; imported only when called, for a quick start.
_COMMANDS = {"report": "dnsqmon.cli.report", "lists import": "dnsqmon.cli.list_import"}

log = logging.getLogger("dnsqmon")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's own) gives; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _stand_in_for_closed_streams()
    _log_to_stderr()
    try:
        for name, module in _COMMANDS.items():
            words = name.split()
            if arguments[: len(words)] == words:
                return _command(name, module, arguments[len(words) :])
        if arguments[:1] == ["check"]:
            return _check(_settings(arguments[1:]))
        return _monitor(_settings(arguments))
    except ConfigError as error:
        log.error("%s", error)
        return 2
    except ClosedOutputError:
        return 1
    except DnsqmonError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:  # before there was a capture to end
        return 128 + signal.SIGINT
    finally:
        _let_go_of_output()


def _command(name: str, module_name: str, arguments: list[str]) -> int:
    """Run one of the other commands, each of which is a module with configure() and run()."""
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"dnsqmon {name}", description=module.__doc__)
    module.configure(parser)
    code: int = module.run(parser.parse_args(arguments))
    return code


def _check(settings: Settings) -> int:
    """Say what stands in the way of a run with these settings."""
    from dnsqmon.cli.check import check  # noqa: PLC0415 - for a quick start of everything else

    return 0 if check(settings, os.environ.get("DNSQMON_HEC_TOKEN")) else 2


def _settings(arguments: list[str]) -> Settings:
    """Read the command line, over the file that --config names."""
    given = vars(_parser().parse_args(arguments))
    config = given.pop("config", None)
    settings = read_settings({**({} if config is None else _read_config(config)), **given})
    check_sinks(settings)
    check_sources(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    """Make the parser from the table of settings; values stay text, for `read_settings`."""
    parser = argparse.ArgumentParser(
        prog="dnsqmon",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = Settings()
    for name, row in table().items():
        if not row.flags:
            continue
        options: dict[str, Any] = {"dest": name, "help": row.help.replace("%", "%%")}
        if isinstance(getattr(defaults, name), bool):
            options["action"] = "store_true"
        else:
            options["metavar"] = row.metavar
            options["action"] = "append"  # `read_settings` refuses a second value where one is due
            if row.bare:
                options.update(nargs="?", const=row.bare)
        parser.add_argument(*row.flags, **options)
    parser.add_argument("--config", metavar="<file name>", help="Read settings from a YAML file.")
    parser.add_argument("--version", action="version", version=f"dnsqmon {__version__}")
    return parser


def _read_config(path: str) -> dict[str, object]:
    """Read a YAML file of settings: the same names, with hyphens or underscores."""
    file = YamlFile(path, "--config")
    values: dict[str, object] = {}
    rows = {name: row for name, row in table().items() if row.flags}
    for key, node in file.mapping(file.root, "the settings").items():
        name = key.replace("-", "_")
        if name not in rows or name in values:
            reason = f"{key} stands here twice" if name in rows else f"unknown setting {key}"
            raise file.error(node, reason)
        texts = file.texts(node, key)
        if rows[name].bare and texts == ["false"]:
            continue
        if isinstance(getattr(Settings(), name), bool):
            if texts not in (["true"], ["false"]):
                reason = f"{key} must be true or false"
                raise file.error(node, reason)
            values[name] = texts == ["true"]
            continue
        # `json: true` is what --json is without a value.
        values[name] = rows[name].bare if rows[name].bare and texts == ["true"] else texts
        try:
            read_settings({name: values[name]})
        except ConfigError as error:
            raise file.error(node, str(error)) from error
    return values


def _monitor(settings: Settings) -> int:
    """Run the sensor until its source ends or a signal ends it."""
    progress = _Progress(enabled=bool(settings.read) and not settings.display)
    live = settings.interface or settings.server
    # Until there is a pipeline to act on them; the lists are about to be loaded anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    pipeline = assemble(
        settings,
        sys.stdout,
        on_progress=progress.show,
        once_open=partial(_drop_rights, settings),
        hec_token=os.environ.get("DNSQMON_HEC_TOKEN"),
    )
    status = Status(pipeline, _for_people(settings), settings.time, file_name(settings))
    reports = Reports(pipeline, settings.time, settings.stats_file)
    _handle_signals(pipeline, reports)
    if settings.metrics:
        from dnsqmon.account.prometheus import MetricsServer  # noqa: PLC0415 - it costs a tenth of the start

        MetricsServer(settings.metrics, lambda: reports.latest)

    def between() -> None:
        if live:
            status.show_if_due()
        reports.keep_up()

    collect_seldom()
    try:
        if not live:
            status.tell("Reading packets from PCAP file.")
        pipeline.run(between)
    finally:
        progress.close()
        reports.finish()
        if settings.stats:
            counts = account(pipeline)
            lines = [json.dumps(counts)] if settings.stats == "json" else as_text(counts)
            sys.stderr.write("\n".join(lines) + "\n")
    status.show("received" if live else "read")
    return 0


def _for_people(settings: Settings) -> TextIO | None:
    """Choose where status lines go: never among JSON lines, which they leave for a terminal."""
    if settings.json != "-":
        return sys.stdout
    return sys.stderr if sys.stderr.isatty() else None


def _drop_rights(settings: Settings) -> None:
    """Keep no right that only opening an interface or a port needs."""
    if settings.interface or settings.server:
        privileges.drop(settings.user)
        privileges.check_library(settings.user)


class _Progress:
    """A progress bar for a file that takes a while, on a terminal only."""

    def __init__(self, *, enabled: bool) -> None:
        self._bar: Any = None
        self._enabled = enabled and sys.stderr.isatty()

    def show(self, done: int, total: int) -> None:
        """Draw how many of the file's bytes are done."""
        if not self._enabled:
            return
        if self._bar is None:
            try:
                from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it
            except ImportError:
                self._enabled = False
                return
            self._bar = tqdm(total=total, unit="B", unit_scale=True, delay=1, leave=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _handle_signals(pipeline: Pipeline, reports: Reports) -> None:
    """SIGINT and SIGTERM end the run with everything written; SIGHUP loads the lists again.

    SIGUSR1 shows the account of every packet.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        pipeline.source.stop()

    def reload(_number: int, _frame: FrameType | None) -> None:
        pipeline.inlet.reload()

    def show(_number: int, _frame: FrameType | None) -> None:
        reports.show()

    signal.signal(signal.SIGUSR1, show)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, reload)


def _log_to_stderr() -> None:
    """Send warnings and errors of the program to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[!] %(levelname)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _stand_in_for_closed_streams() -> None:
    """Stand in for streams that were closed before the start (`>&-`): Python shows them as None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end


def _let_go_of_output() -> None:
    """Let what standard output did not take not fail once more when Python flushes it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
