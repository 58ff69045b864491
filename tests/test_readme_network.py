"""The README's commands for the network run as written: as root, with sudo, in a namespace."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from craft import dns_query, ethernet, ipv4, udp
from namespaces import veth_pair
from needs import ROOT, need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from namespaces import Namespace

README = (ROOT / "README.md").read_text("utf-8")
#: The indented commands; recipes that pipe into programs which Debian does not have come without.
COMMANDS = [
    command.partition(" | ")[0]
    for command in re.findall(r"^    ((?:sudo )?dnsqmon .*)$", README, re.MULTILINE)
]
#: Nobody answers at the receivers' names here: the program says so and goes on.
EXPECTED_COMPLAINTS = ("siem.example", "idx1.example", "idx2.example", "192.0.2.1")


@pytest.fixture(name="installed", scope="module")
def _installed() -> Iterator[Path]:
    """Install the program as an administrator would, for everybody to run."""
    need_root()
    need("ip", "unshare", "/usr/bin/python3")
    folder = Path(tempfile.mkdtemp(prefix="dnsqmon-"))
    folder.chmod(0o755)
    environment = folder / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", str(environment)], check=True)
    source = folder / "source"
    shutil.copytree(ROOT / "bin", source / "bin", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [str(environment / "bin/pip"), "install", "--quiet", str(source)],
        check=True,
        capture_output=True,
    )
    sudo = environment / "bin/sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n', "ascii")
    sudo.chmod(0o755)
    yield environment / "bin"
    shutil.rmtree(folder)


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[Namespace, Namespace]]:
    """Return a sensor's namespace with eth0 and eth1, and the one at the other end of eth0."""
    need_root()
    with veth_pair() as (sensor, client):
        sensor.ip("link add eth1 type veth peer name far1")
        sensor.ip("link set far1 up")
        sensor.ip("link set eth1 up")
        sensor.ip("link set lo up")
        yield sensor, client


def _folder(tmp_path: Path) -> Path:
    """Make the files that the commands name, in a folder in which nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="dnsqmon-", dir=tmp_path.anchor + "tmp"))
    folder.chmod(0o777)
    trustme.CA().cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "token").write_text("00000000-0000-0000-0000-000000000000\n", "ascii")
    (folder / "key").write_text("0123456789abcdef" * 4 + "\n", "ascii")
    (folder / "key").chmod(0o600)
    names = ("siem.example", "idx1.example", "idx2.example")
    (folder / "hosts").write_text("".join(f"192.0.2.2 {name}\n" for name in names), "ascii")
    return folder


@pytest.mark.once
@pytest.mark.parametrize("command", COMMANDS)
def test_command(
    command: str, installed: Path, ends: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    """It starts, says nothing but that nobody answers, and ends in order on SIGTERM."""
    sensor, client = ends
    folder = _folder(tmp_path)
    prepare = (
        "mkdir -p /var/lib/dnsqmon && mount -t tmpfs -o mode=0777 none /var/lib/dnsqmon"
        " && mount --bind hosts /etc/hosts"
        f' && export PATH="{installed}:$PATH" && exec {command}'
    )
    program = sensor.start(
        "unshare", "--mount", "bash", "-c", prepare,
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if " check " not in command:
        time.sleep(2)
        query = dns_query("www.example.com", 1)
        client.send_frames(
            "eth0", [ethernet(ipv4("192.0.2.9", "192.0.2.8", 17, udp(4000, 53, query)))]
        )
        time.sleep(1)
        assert program.poll() is None, program.communicate()
        program.send_signal(signal.SIGTERM)
    output, errors = program.communicate(timeout=30)

    assert program.returncode == 0, errors
    for line in errors.splitlines():
        if line.startswith("[!] "):
            assert any(name in line for name in EXPECTED_COMPLAINTS), line
    if "-i eth0" in command and " check " not in command and "--json" not in command:
        assert "Inspected DNS Queries: 1 (" in output
    shutil.rmtree(folder)


def test_every_form_is_there() -> None:
    """The README shows capture, check, each way to forward, and the relay's two ends."""
    text = "\n".join(COMMANDS)
    for option in ("-i eth0", "check", "--syslog udp", "--syslog tls", "--hec", "--server",
                   "--client", "--json"):  # fmt: skip
        assert option in text
