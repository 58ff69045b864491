"""`lists import`: each published shape becomes one CSV of ours, and every line is accounted for."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import zipfile
from typing import TYPE_CHECKING, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnsqmon.cli import list_import
from dnsqmon.core.errors import ConfigError
from dnsqmon.score.lists import DomainList

if TYPE_CHECKING:
    from pathlib import Path

TRANCO = "1,google.com\r\n2,www.bbc.co.uk\r\n3,GOOGLE.com\r\n4,co.uk\r\n5,bbc.co.uk\r\n"
MAJESTIC = (
    "GlobalRank,TldRank,Domain,TLD,RefSubNets,RefIPs,IDN_Domain,IDN_TLD\n"
    "1,1,google.com,com,1,2,google.com,com\n"
    "2,1,xn--mnchen-3ya.de,de,1,2,m\u00fcnchen.de,de\n"
)
HOSTS = "# hosts\n127.0.0.1 localhost\n0.0.0.0 ads.example tracker.example # both\n"
PLAIN = "ads.example\n\n# x\ntracker.example\n"


def imported(*arguments: object) -> int:
    """Run the command with these arguments."""
    parser = argparse.ArgumentParser()
    list_import.configure(parser)
    return list_import.run(parser.parse_args([str(argument) for argument in arguments]))


def zipped(**members: str) -> bytes:
    """Make a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return packed.getvalue()


PACK: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "zip": lambda text: zipped(top=text),
}


@pytest.mark.parametrize(
    ("form", "text", "names"),
    [
        ("tranco", TRANCO, ["google.com", "www.bbc.co.uk", "co.uk", "bbc.co.uk"]),
        ("umbrella", TRANCO, ["google.com", "www.bbc.co.uk", "co.uk", "bbc.co.uk"]),
        ("majestic", MAJESTIC, ["google.com", "xn--mnchen-3ya.de"]),
        ("hosts", HOSTS, ["ads.example", "tracker.example"]),
        ("plain", PLAIN, ["ads.example", "tracker.example"]),
    ],
    ids=["tranco", "umbrella", "majestic", "hosts", "plain"],
)
@pytest.mark.parametrize("recognised", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("packed", PACK)
def test_shapes(
    tmp_path: Path, form: str, text: str, names: list[str], packed: str, *, recognised: bool
) -> None:
    """Each shape, packed or not, named or recognised, gives its names once, in their order."""
    source = tmp_path / "source"
    source.write_bytes(PACK[packed](text))

    assert (
        imported(source, "-o", tmp_path / "out.csv", "--format", "auto" if recognised else form)
        == 0
    )

    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines == ["domain,category,source,description", *(f"{name},,," for name in names)]


def test_the_report_accounts_for_every_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error says how many lines were read and names kept, what was left out and why."""
    source = tmp_path / "source"
    source.write_text("a.example\nA.example\n*.example\nx y\n*.b.example\nb.example\n")

    imported(source)

    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["a.example,,,", "b.example,,,"]
    assert shown.err.splitlines() == [
        f"{source}:3: wildcards are not matched, list each name",
        f"{source}:4: more than one word",
        f"{source}:5: wildcards are not matched, list each name",
        f"{source}: 6 lines read, 2 names kept",
        "  left out 2: wildcards are not matched, list each name",
        "  left out 1: more than one word",
        "  left out 1: named before",
    ]


def test_registrable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--registrable gives what a common list is compared with, and leaves suffixes out."""
    source = tmp_path / "source"
    source.write_text(TRANCO + "6,192.0.2.1\n7,.\n8,d1.cloudfront.net\n9,1.2.in-addr.arpa\n")

    imported(source, "--registrable")

    shown = capsys.readouterr()
    domains = ["google.com", "bbc.co.uk", "cloudfront.net", "in-addr.arpa"]
    assert shown.out.splitlines()[1:] == [f"{domain},,," for domain in domains]
    assert "  left out 3: no registrable domain" in shown.err.splitlines()
    assert "  left out 2: named before" in shown.err.splitlines()


def test_top_counts_names_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--top N gives N names, however many lines before them were repeated or refused."""
    source = tmp_path / "source"
    source.write_text("1,a.example\n2,a.example\n3,*.example\n4,b.example\n5,c.example\n")

    imported(source, "--top", 2)

    assert capsys.readouterr().out.splitlines()[1:] == ["a.example,,,", "b.example,,,"]


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", ""])
def test_top_refuses_what_is_no_count(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--top takes whole numbers from 1."""
    with pytest.raises(SystemExit):
        imported("source", f"--top={number}")
    assert "--top: give a whole number from 1" in capsys.readouterr().err


def test_the_result_is_a_list(tmp_path: Path) -> None:
    """What was imported loads as a list, whatever the columns beside the name hold."""
    source = tmp_path / "source"
    out = tmp_path / "out.csv"
    source.write_text(PLAIN)

    imported(source, "-o", out, "--category", 'say "x", y', "--source", "a,b")

    loaded = DomainList.load(str(out), "watch")
    assert loaded.names == {"ads.example", "tracker.example"}
    assert loaded.skipped_count == 0
    assert out.read_text().splitlines()[1] == 'ads.example,"say ""x"", y","a,b",'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no domain name in it"),
        (b"1,\n2,\n", "no domain name in it"),
        (gzip.compress(b"a.example\n" * 1000)[:-9], "cannot be read"),
        (b"\x1f\x8b\x08\x00 no gzip at all", "cannot be read"),
        (b"PK\x03\x04 no zip at all", "cannot be read"),
        (zipped(a="a.example", b="b.example"), "unpack it first"),
        (zipped(a="a.example").replace(b"\x14\0\0\0", b"\x14\0\1\0"), "password required"),
        (zipped(a="a.example").replace(b"\x14\0\0\0", b"\xff\0\0\0"), "zip file version"),
    ],
)
def test_what_cannot_be_imported_leaves_the_output_alone(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    """A source without a name, cut off or broken is refused, and the old list stays as it was."""
    source = tmp_path / "source"
    source.write_bytes(data)
    out = tmp_path / "out.csv"
    out.write_text("domain\nold.example\n")

    with pytest.raises(ConfigError, match=reason) as caught:
        imported(source, "-o", out)

    assert str(caught.value).startswith(f"{source}: ")
    assert out.read_text() == "domain\nold.example\n"
    assert sorted(tmp_path.iterdir()) == [out, source]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """A source that is not there, and an output that cannot be made, are named with the reason."""
    source = tmp_path / "source"
    with pytest.raises(ConfigError, match=f"{source}: cannot be read: No such file"):
        imported(source)
    source.write_text(PLAIN)
    with pytest.raises(ConfigError, match=f"-o {tmp_path}/no/out: No such file"):
        imported(source, "-o", tmp_path / "no" / "out")


def test_output_to_a_link(tmp_path: Path) -> None:
    """A link stays a link, to the new list."""
    source = tmp_path / "source"
    source.write_text(PLAIN)
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")

    imported(source, "-o", tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text().startswith("domain,")


def test_output_to_a_pipe(tmp_path: Path) -> None:
    """What is no regular file, a pipe or a device, is written to and not replaced."""
    source = tmp_path / "source"
    source.write_text(PLAIN)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        imported(source, "-o", pipe)
        assert os.read(reader, 1000).startswith(b"domain,")
    finally:
        os.close(reader)

    assert pipe.is_fifo()


@given(
    data=st.binary(max_size=300), magic=st.sampled_from([b"", b"1,", b"\x1f\x8b", b"PK\x03\x04"])
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_import_or_are_refused(tmp_path: Path, data: bytes, magic: bytes) -> None:
    """Whatever the source holds, it is imported or refused with a ConfigError."""
    source = tmp_path / "source"
    source.write_bytes(magic + data)
    out = tmp_path / "out.csv"
    out.unlink(missing_ok=True)
    with contextlib.suppress(ConfigError):
        imported(source, "-o", out, "--registrable")
        assert DomainList.load(str(out), "common").count
    assert not (tmp_path / "out.csv.new").exists()
