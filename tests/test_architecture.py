"""The shape of the package: who may import whom, and who may touch the world outside."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from command import ENVIRONMENT
from needs import ROOT
from traffic import capture, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "bin" / "dnsqmon"

#: The folders from the ground up, each with those it may import besides its own modules. `pipeline`
#: is the one module that stands beside them.
FOLDERS: dict[str, set[str]] = {
    "core": set(),
    # The stages and their settings: none knows another.
    "config": {"core"},
    "sources": {"core"},
    "decode": {"core"},
    "score": {"core"},
    "render": {"core"},
    "relay": {"core"},
    "sinks": {"core"},
    # What joins two stages, and the loop over all of them.
    "sensor": {"core", "decode", "score"},
    "pipeline": {"core", "render"},
    # What is told of a run.
    "account": {"core", "pipeline"},
    # The only folder that knows every part.
    "assembly": {
        "core", "config", "sources", "decode", "score", "render", "relay", "sinks", "sensor",
        "pipeline", "account",
    },
    # The two faces.
    "splunk": {"core", "config", "score", "render", "sinks", "pipeline", "account", "assembly"},
    "cli": {
        "core", "config", "sources", "score", "sinks", "pipeline", "account", "assembly",
    },
}  # fmt: skip

#: Modules beside the folders: what `python -m` and `import` need, and the loop.
BESIDE = {"__init__", "__main__", "pipeline"}

#: Imports that the folders do not allow, and why they are honest.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("sinks.relay", "relay.wire"): "the client writes what the server reads",
}

#: Modules outside sources, sinks, splunk and cli that open files, sockets or databases, and why.
OPENERS = {
    "core.yaml_file": "the YAML file it reads",
    "relay.wire": "the key file of --key-file",
    "relay.feed": "the socket of --server",
    "score.lists": "the lists",
    "score.first_seen": "the state file",
    "account.journal": "the file of --stats-file",
    "account.prometheus": "the socket of --metrics",
    "assembly.network": "the file of --hec-token-file",
}

#: The folders that may touch the process: arguments, environment, standard input, signals.
FACES = {"splunk", "cli"}

#: Libraries that are imported where they are used, so that the rest runs without them.
OPTIONAL = {"scapy", "yaml", "splunklib", "tqdm", "publicsuffixlist", "urllib3"}


class Module(NamedTuple):
    """A module of the package: its dotted name below the package, and its syntax."""

    name: str
    tree: ast.Module


def modules() -> list[Module]:
    """Read every module of the package."""
    return [
        Module(
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts),
            ast.parse(path.read_text("utf-8")),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def folder_of(name: str) -> str:
    """Return the folder of a module; `cli` for what starts the command line."""
    return "cli" if name == "__main__" else name.partition(".")[0]


def imported(tree: ast.AST) -> set[str]:
    """Return the modules of the package that are imported, wherever the import stands."""
    return set(_imports(tree))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "dnsqmon":
                    yield alias.name.partition(".")[2] or "__init__"
        elif (
            isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dnsqmon"
        ):
            below = (node.module or "").partition(".")[2]
            for alias in node.names:
                inner = f"{below}.{alias.name}".lstrip(".")
                path = PACKAGE.joinpath(*inner.split("."))
                is_module = path.with_suffix(".py").exists()
                yield inner if is_module else below or "__init__"


def is_type_checking(node: ast.AST) -> bool:
    """Say whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.dump(node.test) == ast.dump(
        ast.parse("TYPE_CHECKING", mode="eval").body
    )


def test_the_tree_shows_the_way() -> None:
    """Beside the folders stand three modules at most, and every folder has its floor."""
    names = {module.name for module in modules()}
    assert {name for name in names if "." not in name} == BESIDE
    assert {name.partition(".")[0] for name in names if "." in name} == set(FOLDERS) - {"pipeline"}


def test_imports_go_down_and_never_sideways() -> None:
    """A module imports its own folder and those below it, but for exceptions with a reason."""
    wrong, used = [], set()
    for module in modules():
        folder = folder_of(module.name)
        for other in imported(module.tree) - {"__init__"}:
            allowed = folder_of(other) in {folder, *FOLDERS.get(folder, ())}
            if (module.name, other) in EXCEPTIONS:
                assert not allowed, f"{module.name} may import {other}: no exception"
                used.add((module.name, other))
            elif not allowed:
                wrong.append(f"{module.name} imports {other}")
    assert wrong == []
    assert used == set(EXCEPTIONS), "exceptions that nothing needs any more"


def test_folders_are_floors() -> None:
    """The folders themselves form no circle: each names only folders that stand above it here."""
    names = list(FOLDERS)
    for name, below in FOLDERS.items():
        assert all(names.index(other) < names.index(name) for other in below), name


def test_no_circles() -> None:
    """No module imports, by whatever way, itself; imports for types alone do not count."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if is_type_checking(node):
                assert isinstance(node, ast.If)
                node.body = []
        graph[module.name] = imported(module.tree) - {"__init__"}
    for start, first in graph.items():
        reached: set[str] = set()
        ahead = list(first)
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += graph.get(name, ())
        assert start not in reached, start


def test_every_exception_exists() -> None:
    """No exception or reason outlives its module."""
    names = {module.name for module in modules()}
    assert {name for pair in EXCEPTIONS for name in pair} | set(OPENERS) <= names


def test_only_faces_touch_the_process() -> None:
    """Arguments, environment, standard input and signals belong to the faces.

    `sensor.ahead` begins a process, in which signals are its own.
    """
    for module in modules():
        if folder_of(module.name) in FACES or module.name == "sensor.ahead":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in {
                    "sys.argv", "sys.stdin", "os.environ", "os.environb", "os.getenv", "os.putenv",
                }, module.name  # fmt: skip
                assert node.value.id != "signal", module.name
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                assert not names & {"sys.argv", "sys.stdin", "os.environ", "os.getenv"}
                assert node.module != "signal", module.name


def opens(tree: ast.AST) -> bool:
    """Say whether a module opens files, sockets or databases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            if call == "open" or call.endswith(
                (
                    ".open", ".read_text", ".read_bytes", ".write_text", ".write_bytes",
                    "socket.socket", ".socketpair", ".create_connection", ".create_server",
                    "sqlite3.connect", ".HTTPConnectionPool", "HTTPServer",
                )
            ):  # fmt: skip
                return True
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    bases = (ast.unparse(base) for node in classes for base in node.bases)
    return any(base.endswith("HTTPServer") for base in bases)


def test_only_the_ends_touch_files_and_sockets() -> None:
    """Sources, sinks and faces open files and sockets, and else only who has a reason listed."""
    found = {
        module.name
        for module in modules()
        if opens(module.tree) and folder_of(module.name) not in {"sources", "sinks", *FACES}
    }
    assert found == set(OPENERS)


def test_no_error_is_swallowed_whole() -> None:
    """`except Exception` stands in the faces alone; elsewhere only to clean up and raise on."""
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or folder_of(module.name) in FACES:
                continue
            caught = ast.unparse(node.type) if node.type else "BaseException"
            if {"Exception", "BaseException"} & set(caught.strip("()").split(", ")):
                last = node.body[-1]
                assert isinstance(last, ast.Raise), f"{module.name}:{node.lineno}"
                assert last.exc is None, f"{module.name}:{node.lineno}"


def test_libraries_are_imported_where_they_are_used() -> None:
    """No module but the Splunk face imports a library as it is itself imported."""
    for module in modules():
        if module.name == "splunk.modinput":
            continue
        for node in module.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [
                    alias.name for alias in node.names
                ]  # fmt: skip
                assert not {name.partition(".")[0] for name in names} & OPTIONAL, module.name


def without(libraries: set[str], folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command where the libraries cannot be imported."""
    script = f"""
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(libraries)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv[0] = "dnsqmon"
runpy.run_module("dnsqmon", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_core_needs_no_library(tmp_path: Path) -> None:
    """A capture is read, scored and written without any library but the one for YAML profiles."""
    capture(tmp_path / "x.pcap", [query("www.example.com")])
    code, out, error = without(
        OPTIONAL - {"yaml"}, tmp_path, "-r", "x.pcap", "-d", "-w", "sql", "--json", "x.json"
    )
    assert (code, error) == (0, "")
    assert "Score: 5 Flags: f - www.example.com\n" in out
    assert os.stat(tmp_path / "queries.db").st_size > 0  # noqa: PTH116 - a plain question


@pytest.mark.parametrize(
    ("library", "arguments", "text"),
    [
        ("yaml", "-r x.pcap -d", "classic.yaml is YAML: pip install PyYAML"),
        ("yaml", "-r x.pcap -d --config x.yaml", "--config x.yaml is YAML: pip install PyYAML"),
        (
            "publicsuffixlist",
            "-r x.pcap -d --profile weighted",
            "this profile takes the SLD from the Public Suffix List: pip install publicsuffixlist",
        ),
    ],
)
def test_missing_library(tmp_path: Path, library: str, arguments: str, text: str) -> None:
    """Where a library is needed and missing, one line says what to install, exit code 2."""
    capture(tmp_path / "x.pcap", [query("www.example.com")])
    code, out, error = without({library}, tmp_path, *arguments.split())
    assert (code, out) == (2, "")
    assert error.startswith("[!] ERROR: ")
    assert error.endswith(f"{text}\n")
    assert error.count("\n") == 1
