"""`yaml_file`: values that know their lines, and mistakes that name theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.yaml_file import YamlFile

if TYPE_CHECKING:
    from pathlib import Path


FIX = "; name a YAML file that can be read"
START = f"invalid start byte{FIX}"


def refusal(path: Path, what: str) -> str:
    """Return the text with which a file is refused, without the folder."""
    with pytest.raises(ConfigError) as caught:
        YamlFile(str(path), what)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "x.yaml: the file is empty"),
        (b"# nothing but a comment\n", "x.yaml: the file is empty"),
        (b"a: 1\nb: [1\n", "x.yaml:3: not YAML: expected ',' or ']', but got '<stream end>'"),
        (
            b"a: 1\n\tb: 2\n",
            "x.yaml:2: not YAML: found character '\\t' that cannot start any token",
        ),
        (b"a: 1\n---\nb: 2\n", "x.yaml:2: not YAML: but found another document"),
        (b"a: *b\n", "x.yaml:1: not YAML: found undefined alias 'b'"),
        (
            b"a: \x01\n",
            "x.yaml: not YAML: unacceptable character #x0001: special characters are not allowed",
        ),
        (
            b"a: \xff\n",
            f"--config x.yaml: 'utf-8' codec can't decode byte 0xff in position 3: {START}",
        ),
    ],
)
def test_no_yaml(tmp_path: Path, content: bytes, text: str) -> None:
    """What is not one YAML document is refused in one line with its place."""
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    assert refusal(path, "--config") == text


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, or is a directory, is refused by the setting that named it."""
    missing = refusal(tmp_path / "x.yaml", "--profile")
    assert missing == f"--profile x.yaml: No such file or directory{FIX}"
    assert refusal(tmp_path, "--profile").endswith(f": Is a directory{FIX}")


def test_values(tmp_path: Path) -> None:
    """Values stay the text they are written as: YAML's booleans and octal numbers do not apply."""
    path = tmp_path / "x.yaml"
    path.write_text("a: no\nb: [1, 010, ru]\nc: 7\n")
    file = YamlFile(str(path), "--config")
    values = file.mapping(file.root, "it")
    assert list(values) == ["a", "b", "c"]
    assert file.texts(values["a"], "a") == ["no"]
    assert file.texts(values["b"], "b") == ["1", "010", "ru"]
    assert file.number(values["c"], "c", 7) == 7


def read_both(file: YamlFile) -> None:
    """Read the texts of `a`, where it is there, and the number `b`."""
    values = file.mapping(file.root, "it", ("a", "b"))
    if "a" in values:
        file.texts(values["a"], "a")
    file.number(values["b"], "b", 7)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[1]", "x.yaml:1: it must be `name: value` lines"),
        ("word", "x.yaml:1: it must be `name: value` lines"),
        ("a: 1\n[b]: 2", "x.yaml:2: it: a name must be one word"),
        ("a: 1\nb: 2\na: 3", "x.yaml:3: it: a stands here twice"),
        ("a: 1\n\nz: 2", "x.yaml:3: it: unknown z; known are a, b"),
        ("a:\n  c: 1", "x.yaml:2: a must be one value or a list of values"),
        ("a: [1,\n [2]]", "x.yaml:2: a must be one value or a list of values"),
        ("a: 1\nb: 8", "x.yaml:2: b must be a whole number from 0 to 7"),
        ("b: -1", "x.yaml:1: b must be a whole number from 0 to 7"),
        ("b: 1.5", "x.yaml:1: b must be a whole number from 0 to 7"),
        ("b: 99999999999999999999", "x.yaml:1: b must be a whole number from 0 to 7"),
        ("b: ٣", "x.yaml:1: b must be a whole number from 0 to 7"),
        ("b: [1]", "x.yaml:1: b must be a whole number from 0 to 7"),
        ("b:", "x.yaml:1: b must be a whole number from 0 to 7"),
    ],
)
def test_mistakes(tmp_path: Path, content: str, text: str) -> None:
    """A value of the wrong kind is refused at its line."""
    path = tmp_path / "x.yaml"
    path.write_text(content, "utf-8")
    file = YamlFile(str(path), "--config")
    with pytest.raises(ConfigError) as caught:
        read_both(file)
    assert str(caught.value).replace(f"{tmp_path}/", "") == text
