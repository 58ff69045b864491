"""`sinks.screen`: lines to standard output, and JSON lines to a file."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.sinks.line_file import LineFile
from dnsqmon.sinks.screen import Screen
from seed_rows import SEED_ROWS, batch_of

if TYPE_CHECKING:
    from pathlib import Path

ROWS = SEED_ROWS[:3]


@pytest.mark.parametrize("form", ["screen", "json", "csv"])
def test_writes_lines_of_the_format(form: str) -> None:
    """Each batch's lines reach the stream in the format that was asked for."""
    stream = io.StringIO()
    sink = Screen(stream, form)
    sink.write(batch_of(ROWS))
    sink.write(batch_of([]))
    sink.write(batch_of(ROWS[:1]))
    sink.close()
    lines = [*batch_of(ROWS).lines(form), *batch_of(ROWS[:1]).lines(form)]
    assert stream.getvalue() == "".join(f"{line}\n" for line in lines)
    assert sink.name == form
    assert sink.counts() == {"written": 4, "lost_write_error": 0}


def test_seed_line() -> None:
    """The screen shows the original's line for the original's sample record."""
    row = (
        "01/01/2014,15:38:51,roonet,10.18.23.35,60678,10.18.22.12,53,PTR,"
        "12.22.18.10.in-addr.arpa,arpa,in-addr.arpa,6,5,f"
    )
    stream = io.StringIO()
    Screen(stream).write(batch_of([row.split(",")]))
    assert stream.getvalue() == (
        "[-] DNS Packet: 1 - 01/01/2014 15:38:51 - 10.18.23.35:60678 > 10.18.22.12:53 - "
        "PTR Record - Score: 5 Flags: f - 12.22.18.10.in-addr.arpa\n"
    )


def test_reader_sees_the_batch_at_once() -> None:
    """A batch is flushed when `write` returns, even where the stream buffers and is ASCII."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as stream, os.fdopen(reader, "rb") as pipe:
        Screen(stream, "csv").write(batch_of(ROWS))
        assert pipe.read1(4096).decode().splitlines() == batch_of(ROWS).lines("csv")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("pipe", "standard output was closed"),
        ("/dev/full", "cannot write to standard output: No space left on device"),
    ],
)
def test_stream_that_fails(target: str, text: str) -> None:
    """A reader that went away and a full disk raise SinkError with the records lost."""
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(target, os.O_WRONLY)
    with os.fdopen(writer, "w", encoding="ascii") as stream:
        sink = Screen(stream)
        with pytest.raises(SinkError) as caught:
            sink.write(batch_of(ROWS))
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - for its descriptor
            os.dup2(nowhere.fileno(), stream.fileno())  # the stream flushes once more as it closes
    assert str(caught.value) == text
    assert caught.value.lost == len(ROWS)
    assert sink.counts() == {"written": 0, "lost_write_error": len(ROWS)}


def test_json_file_is_appended_to(tmp_path: Path) -> None:
    """JSON lines go under those of an earlier run, a cut-off line of which is ended first."""
    path = tmp_path / "queries.json"
    for rows in ROWS[:1], ROWS[1:]:
        sink = LineFile(path, "json")
        sink.write(batch_of(rows))
        sink.close()
    assert path.read_text().splitlines() == batch_of(ROWS).lines("json")
    domains = [json.loads(line)["domain"] for line in path.read_text().splitlines()]
    assert domains == [row[8] for row in ROWS]

    path.write_text('{"time":13')
    sink = LineFile(path, "json")
    sink.write(batch_of(ROWS))
    sink.close()
    assert path.read_text().splitlines() == ['{"time":13', *batch_of(ROWS).lines("json")]
    assert sink.name == "json"


def test_json_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A missing directory is the user's mistake, named with its path."""
    with pytest.raises(ConfigError, match=r"missing/x\.json: cannot write this file: No such file"):
        LineFile(tmp_path / "missing" / "x.json", "json")
