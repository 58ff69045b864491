"""The built app: what is in it, that it is the same every time, and that it stands alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

import staged
from needs import ROOT, need

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which packages are built once a run."""
    return tmp_path_factory.getbasetemp()


def test_build_is_reproducible(base: Path, tmp_path: Path) -> None:
    """A second build, elsewhere, writes the same bytes."""
    staged.build(tmp_path / "again")
    (again,) = (tmp_path / "again").glob("*.spl")
    assert again.read_bytes() == staged.package(base).read_bytes()


def test_members_are_plain(base: Path) -> None:
    """All lies below TA-dnsqmon: files 0644, folders 0755, no owner, nothing hidden or compiled."""
    with tarfile.open(staged.package(base)) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names, key=lambda name: name.split("/"))
    for member in members:
        parts = member.name.split("/")
        assert parts[0] == "TA-dnsqmon"
        assert not any(part.startswith(".") or part == "__pycache__" for part in parts)
        assert not member.name.endswith((".pyc", ".so", ".pyd", ".exe"))
        assert member.isdir() or member.isfile()
        assert member.mode == (0o755 if member.isdir() else 0o644)
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_app_holds_the_repository_and_the_overlay(base: Path) -> None:
    """Every file of bin/, default/, lookups/ and package/app/ is in the app, byte for byte."""
    app = staged.app(base)
    expected = {
        path.relative_to(ROOT / top).as_posix(): path
        for top, folders in ((".", ("bin", "default", "lookups")), ("package/app", ("",)))
        for folder in folders
        for path in (ROOT / top / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".egg-info"
    }
    for name in [n for n in expected if ".egg-info/" in n or n.endswith("py.typed")]:
        del expected[name]
    assert {name for name in expected if not (app / name).is_file()} == set()
    for name, path in expected.items():
        assert (app / name).read_bytes() == path.read_bytes()


def test_app_holds_what_git_knows(tmp_path: Path) -> None:
    """A stray file goes into the app only where there is no checkout to tell it from the others."""
    need("git")
    for name in ("package/build.py", "bin/dnsqmon/kept.py", "bin/dnsqmon/stray.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "package/build.py", tmp_path / name)
    ask = "import build; print(*sorted(str(place) for _, place in build.content()))"

    def content() -> list[str]:
        command = [sys.executable, "-B", "-c", ask]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                               cwd=tmp_path / "package")  # fmt: skip
        return found.stdout.split()

    assert content() == ["bin/dnsqmon/kept.py", "bin/dnsqmon/stray.py"]
    for words in ("init --quiet", "add bin/dnsqmon/kept.py package"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True)
    assert content() == ["bin/dnsqmon/kept.py"]


def test_every_library_has_its_licence(base: Path) -> None:
    """The text of its licence lies beside each library: in its metadata, or in its package."""
    lib = staged.app(base) / "lib"
    packages = {"publicsuffixlist": "publicsuffixlist", "pyyaml": "yaml", "splunk_sdk": "splunklib"}
    assert {path.name.split("-")[0] for path in lib.glob("*.dist-info")} == packages.keys()
    for distribution, package in packages.items():
        texts = [*lib.glob(f"{distribution}-*/licenses/*"), *lib.glob(f"{package}/LICENSE")]
        assert len(texts) == 1, distribution
        assert len(texts[0].read_text("utf-8")) > 500


def test_app_holds_nothing_of_the_workshop(base: Path) -> None:
    """Tests, packaging and local settings stay out."""
    top = {path.name for path in staged.app(base).iterdir()}
    allowed = {
        "bin", "default", "lookups", "lib", "metadata", "static", "README", "app.manifest",
        "LICENSE", "README.md", "CHANGELOG.md",
    }  # fmt: skip
    assert top <= allowed
    assert allowed - top <= {"README.md", "CHANGELOG.md"}


@pytest.mark.parametrize("version", staged.SPLUNK_PYTHONS)
def test_interpreter_is_one_that_runs(version: str) -> None:
    """The Python that stands for Splunk's has its version, and is no stand-in that only asks."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    command = [staged.interpreter(version), "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == version


@pytest.mark.parametrize("version", staged.SPLUNK_PYTHONS)
def test_libraries_stand_alone(base: Path, version: str) -> None:
    """Every module imports with nothing but the app's own lib/ beside the interpreter."""
    app = staged.app(base)
    modules = sorted(
        ".".join(path.relative_to(app / "bin").with_suffix("").parts)
        for path in (app / "bin/dnsqmon").rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    )
    code = (
        f"import sys, importlib; sys.path[:0] = [{str(app / 'bin')!r}, {str(app / 'lib')!r}]\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "import splunklib.modularinput, splunklib.client, yaml, publicsuffixlist\n"
        "assert publicsuffixlist.PublicSuffixList().privatesuffix('www.bbc.co.uk') == 'bbc.co.uk'\n"
        "assert yaml.safe_load('a: [1, 2]') == {'a': [1, 2]}\n"
    )
    subprocess.run([staged.interpreter(version), "-B", "-E", "-s", "-S", "-c", code], check=True)


@pytest.mark.parametrize("version", staged.SPLUNK_PYTHONS)
def test_scapy_variant_captures_alone(base: Path, version: str) -> None:
    """With scapy bundled, its capture imports from lib/ alone, and its resolver is cut out."""
    lib = staged.app(base, with_scapy=True) / "lib"
    code = (
        f"import sys; sys.path.insert(0, {str(lib)!r})\n"
        "from scapy import all\n"
        "import scapy.layers.dns, scapy.arch.linux, scapy.libs.structures, scapy.sendrecv\n"
        "assert not hasattr(scapy.layers.dns, 'dns_resolve')\n"
        "assert all.conf.L2listen and list(all.conf.ifaces)\n"
    )
    subprocess.run([staged.interpreter(version), "-B", "-E", "-s", "-S", "-c", code], check=True)


@pytest.mark.parametrize("name", ["appIcon", "appIconAlt", "appLogo"])
def test_icons_have_the_sizes_splunk_asks_for(name: str) -> None:
    """Icons are 36x36, logos 160x40, each with its double."""
    width, height = (160, 40) if name == "appLogo" else (36, 36)
    for suffix, scale in (("", 1), ("_2x", 2)):
        header = (ROOT / f"package/app/static/{name}{suffix}.png").read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert header[16:24] == (width * scale).to_bytes(4, "big") + (height * scale).to_bytes(
            4, "big"
        )
