"""Build the Splunk app: an allow-list copy of the repository and its libraries, reproducible.

    python package/build.py [--with-scapy] [--output dist]

Two runs over the same files write the same bytes: members are sorted, have no owner, fixed modes
and one date (SOURCE_DATE_EPOCH, else that of the last commit, from which the age of the lists that
ship is counted).
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
APP = "TA-dnsqmon"

#: What of the repository goes into the app, as patterns of paths; package/app/ is laid over it.
CONTENT = (
    "LICENSE", "README.md", "CHANGELOG.md",
    "bin/dns_query_monitor.py", "bin/dnsqmon/**/*.py", "bin/dnsqmon/**/*.yaml",
    "default/*.conf", "default/data/ui/nav/*.xml", "default/data/ui/views/*.xml",
    "lookups/*.csv",
)  # fmt: skip

#: What of each library goes into lib/: what the app imports, and its licence. No compiled code.
LIBRARIES = (
    "splunklib/__init__.py", "splunklib/binding.py", "splunklib/client.py", "splunklib/data.py",
    "splunklib/utils.py", "splunklib/modularinput/*.py",
    "yaml/*.py",
    "publicsuffixlist/__init__.py", "publicsuffixlist/compat.py", "publicsuffixlist/*.dat",
    "*.dist-info/METADATA", "*.dist-info/licenses/*",
)  # fmt: skip

#: Of scapy: capture and nothing else. AppInspect refuses some of the rest (UDP sockets, consoles).
SCAPY = tuple(
    f"scapy/{path}"
    for path in (
        "VERSION", "__init__.py", "ansmachine.py", "as_resolvers.py", "automaton.py",
        "base_classes.py", "compat.py", "config.py", "consts.py", "dadict.py", "data.py",
        "error.py", "fields.py", "interfaces.py", "main.py", "packet.py", "plist.py",
        "pton_ntop.py", "route.py", "route6.py", "sendrecv.py", "sessions.py", "supersocket.py",
        "themes.py", "utils.py", "utils6.py", "volatile.py",
        "arch/__init__.py", "arch/common.py", "arch/linux/*.py",
        "layers/__init__.py", "layers/dns.py", "layers/inet.py", "layers/inet6.py", "layers/l2.py",
        "libs/__init__.py", "libs/ethertypes.py", "libs/extcap.py", "libs/manuf.py",
        "libs/structures.py", "libs/test_pyx.py", "libs/winpcapy.py",
    )
)  # fmt: skip


def main() -> int:
    """Build the package that the command line asks for, and print its path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--with-scapy", action="store_true", help="bundle scapy (GPL-2.0) as well")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder to write to")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    suffix = "-with-scapy" if options.with_scapy else ""
    target = options.output / f"{APP}-{version()}{suffix}.spl"
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder) / APP, with_scapy=options.with_scapy)
        pack(Path(folder) / APP, target)
    sys.stdout.write(f"{target}\n")
    return 0


def version() -> str:
    """Read the version that the package, app.conf and app.manifest share."""
    text = (ROOT / "bin/dnsqmon/__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit('bin/dnsqmon/__init__.py: no line __version__ = "..."')
    return found[1]


def stage(target: Path, *, with_scapy: bool = False) -> None:
    """Lay out the app in the new folder `target`, ready to run from there."""
    for file, place in content():
        copy(file, target / place)
    install("requirements.txt", LIBRARIES, target / "lib")
    if with_scapy:
        install("requirements-scapy.txt", (*SCAPY, *LIBRARIES[-2:]), target / "lib")
        cut_dns_resolve(target / "lib/scapy/layers/dns.py")
        copy(ROOT / "package/scapy_all.py", target / "lib/scapy/all.py")


def content() -> Iterator[tuple[Path, Path]]:
    """Return each file of the repository that goes into the app, and its place there.

    In a git checkout those that git knows: what else lies about is nobody's release.
    """
    overlay = ROOT / "package/app"
    found = [(file, ROOT) for pattern in CONTENT for file in ROOT.glob(pattern)]
    found += [(file, overlay) for file in overlay.rglob("*") if file.is_file()]
    known = tracked()
    for file, top in found:
        if not known or file in known:
            yield file, file.relative_to(top)


def tracked() -> set[Path]:
    """Ask git for the files of the checkout; there are none where this is not one."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    try:
        names = subprocess.run(git, check=True, capture_output=True, text=True).stdout  # noqa: S603 - fixed words
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {ROOT / name for name in names.split("\0") if name}


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, and nothing else of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def install(requirements: str, patterns: tuple[str, ...], lib: Path) -> None:
    """Fetch the pinned distributions and take the files that match one of the patterns."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603 - our own interpreter, our own arguments
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--no-deps", "--require-hashes", "--python-version", "3.9",
                "--platform", "manylinux2014_x86_64", "--dest", folder,
                "--requirement", str(ROOT / "package" / requirements),
            ],
            check=True,
        )  # fmt: skip
        for archive in sorted(Path(folder).iterdir()):
            for name, content in members(archive):
                if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                    (lib / name).parent.mkdir(parents=True, exist_ok=True)
                    (lib / name).write_bytes(content)


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Return name and content of each file of a wheel, or of a source archive laid out as one."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if not name.endswith("/"):
                    yield name, wheel.read(name)
        return
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            file = source.extractfile(member)
            top, _, name = member.name.partition("/")
            if name == "PKG-INFO":
                name = re.sub(r"-(?!\d)", "_", top) + ".dist-info/METADATA"
            if file is not None:
                yield name, file.read()


def cut_dns_resolve(file: Path) -> None:
    """Take scapy's resolver out: a UDP client, which AppInspect refuses and nobody here calls."""
    text = file.read_text("utf-8")
    text, count = re.subn(
        r"\n@conf\.commands\.register\ndef dns_resolve\(.*?(?=\n@|\nclass |\ndef )",
        "",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"{file}: dns_resolve() is not where it was; look at the new scapy")
    file.write_text(text, "utf-8")


def pack(folder: Path, target: Path) -> None:
    """Write the folder as a gzipped tar file whose bytes depend on names and contents alone."""
    date = int(os.environ.get("SOURCE_DATE_EPOCH") or commit_date())
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [folder, *sorted(folder.rglob("*"))]:
            info = tarfile.TarInfo(str(path.relative_to(folder.parent)))
            info.mtime = date
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            content = path.read_bytes()
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    with target.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(plain.getvalue())


def commit_date() -> str:
    """Ask git for the date of the last commit, in seconds since the epoch."""
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout  # noqa: S603 - fixed words
    except (OSError, subprocess.CalledProcessError):
        sys.exit("not a git checkout: set SOURCE_DATE_EPOCH to the date that the files shall have")


if __name__ == "__main__":
    sys.exit(main())
