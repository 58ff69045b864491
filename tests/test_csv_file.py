"""`sinks.csv_file` and `sinks.line_file`: whole rows under one header, whatever happens."""

from __future__ import annotations

import csv
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsqmon.core.errors import ConfigError, SinkError
from dnsqmon.render.batch import Clock, Rendered
from dnsqmon.sinks.csv_file import CsvFile
from needs import missing, need, need_root
from seed_rows import HEADER, SEED_ROWS, batch_of, lines_of
from small_disk import largest_file, plain_user, small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from dnsqmon.core.record import Record

FIRST, SECOND = SEED_ROWS[:3], SEED_ROWS[3:7]


def text(*lines: str) -> str:
    """Join lines as a file holds them."""
    return "".join(f"{line}\n" for line in lines)


def write(path: Path, *batches: list[list[str]]) -> CsvFile:
    """Write batches through a sink of their own."""
    sink = CsvFile(path)
    for rows in batches:
        sink.write(batch_of(rows))
    sink.close()
    return sink


def test_header_once(tmp_path: Path) -> None:
    """A new file gets the header, a second run appends rows under it."""
    path = tmp_path / "queries.csv"
    write(path, FIRST)
    write(path, SECOND)
    assert path.read_text() == text(HEADER, *lines_of(FIRST), *lines_of(SECOND))


def test_empty_file_gets_header(tmp_path: Path) -> None:
    """A file that exists and is empty gets the header."""
    path = tmp_path / "queries.csv"
    path.touch()
    write(path, FIRST)
    assert path.read_text() == text(HEADER, *lines_of(FIRST))


def test_no_records(tmp_path: Path) -> None:
    """An empty batch writes nothing, and a run without records leaves the header alone."""
    path = tmp_path / "queries.csv"
    sink = write(path, [])
    assert path.read_text() == text(HEADER)
    assert sink.counts() == {"written": 0, "lost_write_error": 0}


def test_in_the_file_when_write_returns(tmp_path: Path) -> None:
    """A reader sees the whole batch before the sink is closed."""
    path = tmp_path / "queries.csv"
    sink = CsvFile(path)
    sink.write(batch_of(FIRST))
    assert path.read_text() == text(HEADER, *lines_of(FIRST))
    assert sink.counts() == {"written": 3, "lost_write_error": 0}
    sink.close()


def test_cut_off_row_is_ended_first(tmp_path: Path) -> None:
    """A row that a crash cut off stays a line of its own; the next row is not glued to it."""
    path = tmp_path / "queries.csv"
    cut = lines_of(FIRST)[0][:30]
    path.write_text(text(HEADER) + cut)
    write(path, SECOND)
    assert path.read_text() == text(HEADER, cut, *lines_of(SECOND))


def test_cut_off_row_without_new_rows(tmp_path: Path) -> None:
    """A run that has nothing to write leaves an existing file byte for byte as it was."""
    path = tmp_path / "queries.csv"
    path.write_text(text(HEADER) + "12/28/2013,02:2")
    write(path)
    assert path.read_text() == text(HEADER) + "12/28/2013,02:2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"SQLite format 3\0" + bytes(4096), "holds something else than the columns Date,Time,"),
        (b"Date,Time\n12/28/2013,02:21:17\n", "holds something else than the columns Date,Time,"),
        (b"Date,Ti", "holds something else than the columns Date,Time,"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file that has not the 14 columns is refused and not touched."""
    path = tmp_path / "queries.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        CsvFile(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert str(caught.value).endswith("; name another file")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/queries.csv", "No such file or directory"),
        ("", "Is a directory"),
        ("file/queries.csv", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_path_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    """A path that can be no file is refused with path, reason and fix."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        CsvFile(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: cannot write this file: {reason}; "
        "name a file in a directory that exists, is writable and has room"
    )


def test_directory_that_may_not_be_written() -> None:
    """A directory that this user may not write is refused when the sink is made."""
    with plain_user() as folder:
        folder.chmod(0o500)
        with pytest.raises(ConfigError, match=r"queries\.csv: cannot write this file: Permission"):
            CsvFile(folder / "queries.csv")


def test_file_that_may_not_be_read() -> None:
    """A file that may be appended to and not read is refused: its end cannot be checked."""
    with plain_user() as folder:
        path = folder / "queries.csv"
        path.write_text(text(HEADER))
        path.chmod(0o200)
        with pytest.raises(ConfigError, match="cannot read what this file holds already: Perm"):
            CsvFile(path)


def test_no_room_for_the_header() -> None:
    """A full device is refused when the sink is made."""
    with pytest.raises(
        ConfigError, match=r"^/dev/full: cannot write: No space left on device; name"
    ):
        CsvFile("/dev/full")


@pytest.mark.parametrize("before", [text(HEADER), text(HEADER) + "12/28/2013,02:2"])
def test_write_cut_at_every_byte(tmp_path: Path, before: str) -> None:
    """Wherever a write is cut, the rows that fit stay, whole, and the others are counted."""
    path = tmp_path / "queries.csv"
    path.write_text(before)
    write(path, FIRST)
    complete = path.read_bytes()
    for size in range(len(before), len(complete)):
        path.write_text(before)
        sink = CsvFile(path)
        with largest_file(size), pytest.raises(SinkError) as caught:
            sink.write(batch_of(FIRST))
        whole = complete[:size].rpartition(b"\n")[0] + b"\n"
        expected = max(whole, before.encode(), key=len)
        assert path.read_bytes() == expected
        kept = sum(line.encode() + b"\n" in expected for line in lines_of(FIRST))
        assert str(caught.value) == f"{path}: cannot write: File too large"
        assert caught.value.lost == len(FIRST) - kept
        assert sink.counts() == {"written": kept, "lost_write_error": len(FIRST) - kept}
        # With room again the file goes on with a row of its own.
        sink.write(batch_of(SECOND))
        sink.close()
        rows = path.read_text()
        assert rows.endswith("\n" + text(*lines_of(SECOND)))
        assert rows.count("\n") == 1 + before.count("2013") + kept + len(SECOND)


def test_full_disk(tmp_path: Path) -> None:
    """On a disk that fills up every row is either whole in the file or counted as lost."""
    with small_disk(tmp_path, 16) as disk:
        sink = CsvFile(disk / "queries.csv")
        sink.write(batch_of(SEED_ROWS))
        with pytest.raises(SinkError, match="No space left on device") as caught:
            sink.write(batch_of(SEED_ROWS * 10))
        sink.close()
        header, *rows = (disk / "queries.csv").read_text().splitlines(keepends=True)
        counts = sink.counts()
    assert header == text(HEADER)
    assert len(rows) > len(SEED_ROWS)
    whole = [f"{line}\n" for line in lines_of(SEED_ROWS)] * 11
    assert rows == whole[: len(rows)]
    assert counts == {"written": len(rows), "lost_write_error": caught.value.lost}
    assert len(rows) + caught.value.lost == len(whole)


def test_append_only_file(tmp_path: Path) -> None:
    """A file that cannot be shortened keeps the cut piece as a line; no row is glued to it."""
    need_root()
    need("chattr")
    path = tmp_path / "queries.csv"
    path.write_text(text(HEADER))
    if subprocess.run(["chattr", "+a", str(path)], check=False, capture_output=True).returncode:
        missing("a file system with the attribute append-only")
    try:
        sink = CsvFile(path)
        line = lines_of(FIRST)[0]
        with largest_file(len(HEADER) + 1 + 10), pytest.raises(SinkError) as caught:
            sink.write(batch_of(FIRST))
        sink.write(batch_of(SECOND))
        sink.close()
    finally:
        subprocess.run(["chattr", "-a", str(path)], check=True)
    assert caught.value.lost == len(FIRST)
    assert path.read_text() == text(HEADER, line[:10], *lines_of(SECOND))


def test_pipe_can_be_written(tmp_path: Path) -> None:
    """A named pipe serves as the file: the reader gets the header and the rows."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True) as reader:
        write(path, FIRST)
        assert reader.communicate()[0] == text(HEADER, *lines_of(FIRST))


SAFE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=',"'),
    min_size=1,
    max_size=40,
)
RECORDS = st.tuples(
    st.integers(0, 4_000_000_000_000_000_000), SAFE, SAFE, st.integers(0, 65535), SAFE,
    st.integers(0, 65535), SAFE, SAFE, SAFE, SAFE, st.integers(0, 128), st.integers(0, 1000),
    SAFE, st.just("udp"), st.integers(0, 65535), st.just({}),
)  # fmt: skip


@given(records=st.lists(RECORDS, min_size=1, max_size=5))
def test_csv_module_reads_it_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    """Any 14 safe fields come back from the csv module as they were."""
    path = tmp_path_factory.mktemp("csv") / "queries.csv"
    batch = Rendered(records, Clock(utc=True))
    sink = CsvFile(path)
    sink.write(batch)
    sink.close()
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == HEADER.split(",")
    assert rows == [[str(value) for value in row] for row in batch.rows()]
