"""The right to capture: seen, explained, and given up for good."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dnsqmon.core.errors import ConfigError
from dnsqmon.sources.privileges import can_capture, drop, how_to_allow_capture
from namespaces import veth_pair
from needs import ROOT, need, need_root

UNIT = ROOT / "package" / "systemd" / "dnsqmon.service"

#: Drops to a user, tries to get back what it had, and says how that went.
DROP = """
import ctypes, json, os, pathlib, socket, sys
from dnsqmon.sources import privileges

if sys.argv[2:]:  # as nobody with CAP_NET_RAW alone: what systemd makes of an ambient capability
    libc = ctypes.CDLL(None)
    libc.prctl(8, 1)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
    sets = (ctypes.c_uint32 * 6)(1 << 13, 1 << 13, 1 << 13)
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), sets) == 0
could = privileges.can_capture()
privileges.drop(sys.argv[1])
status = pathlib.Path("/proc/self/status").read_text()
fields = dict(line.split(":\\t", 1) for line in status.splitlines())

def refused(action):
    try:
        action()
    except PermissionError:
        return True
    return False

print(json.dumps({
    "could": could,
    "can": privileges.can_capture(),
    "uids": fields["Uid"].split(),
    "groups": fields["Groups"].split(),
    "capabilities": {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
        == {"0000000000000000"},
    "no_new_privileges": fields["NoNewPrivs"],
    "refused": [
        refused(lambda: os.setresuid(0, 0, 0)),
        refused(lambda: os.setgroups([0])),
        refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
    ],
}))
"""

#: Captures as nobody, through the loss of its interface; says each query's first label.
CAPTURE = """
import signal, sys
from dnsqmon.sources import privileges
from dnsqmon.sources.live import LiveCapture

source = LiveCapture(["eth0"], [53], block_ms=10, ring_megabytes=1)
signal.signal(signal.SIGTERM, lambda *_: source.stop())
privileges.drop("nobody")
print("ready", flush=True)
for batch in source.batches():
    for _, frame in batch.frames:
        print(frame[55:58].decode(), flush=True)
"""


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-c", *arguments]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bin"), "PYTHONDONTWRITEBYTECODE": "1"}


def _run(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_root_becomes_nobody_and_stays_nobody() -> None:
    """After the drop no user, group, capability or packet socket can be had again."""
    need_root()
    result = _run(*_python(DROP, "nobody"))
    assert result == {
        "could": True,
        "can": False,
        "uids": ["65534"] * 4,
        "groups": [],
        "capabilities": True,
        "no_new_privileges": "1",
        "refused": [True, True, True],
    }


def test_an_ordinary_user_gives_up_the_one_right_he_has() -> None:
    """Started with CAP_NET_RAW alone, as by the systemd unit, the user stays and the right goes."""
    need_root()
    result = _run(*_python(DROP, "daemon", "with CAP_NET_RAW"))
    assert result["could"]
    assert not result["can"]
    assert result["uids"] == ["65534"] * 4
    assert result["capabilities"]
    assert result["refused"] == [True, True, True]


def test_staying_root_keeps_no_capability() -> None:
    """With `--user root` the user stays, for files of his own, and every capability goes."""
    need_root()
    result = _run(*_python(DROP, "root"))
    assert result["uids"] == ["0"] * 4
    assert result["capabilities"]
    assert result["refused"][2]


def test_an_unknown_user_is_refused() -> None:
    """A misspelt user is named before anything is given up."""
    need_root()
    with pytest.raises(ConfigError, match="--user nosuchuser: there is no such user"):
        drop("nosuchuser")
    assert can_capture()


def test_root_without_the_right_to_change_its_user_is_told_so() -> None:
    """A container's root that lacks CAP_SETUID learns which setting helps."""
    need_root()
    need("setpriv")
    script = "from dnsqmon.sources.privileges import drop; drop('nobody')"
    done = subprocess.run(
        ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_raw", *_python(script)],
        env=ENVIRONMENT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "CAP_SETUID and CAP_SETGID" in done.stderr
    assert "--user root" in done.stderr


def test_a_missing_right_is_explained_with_a_command_that_works() -> None:
    """The advice names the real interpreter, not a link to it, which setcap would refuse."""
    advice = how_to_allow_capture()
    match = re.search(r"sudo (setcap cap_net_raw\+ep (\S+))$", advice)
    assert match
    path = Path(match[2])
    assert path.is_file()
    assert not path.is_symlink()


def test_capture_without_the_right_gives_the_advice() -> None:
    """Who may not open a packet socket reads one line, not a traceback."""
    need_root()
    need("setpriv")
    script = (
        "from dnsqmon.sources.live import LiveCapture\n"
        "from dnsqmon.core.errors import ConfigError\n"
        "try: LiveCapture(['lo'], [53])\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run(
        ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *_python(script)],
        env=ENVIRONMENT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("capturing needs the right CAP_NET_RAW")
    assert done.stdout.count("\n") == 1


def test_capture_without_rights_survives_a_new_interface() -> None:
    """An interface that comes back is captured again, although all rights were given up."""
    need_root()
    need("ip", "dig")
    with veth_pair() as (client, server):
        process = server.start(
            *_python(CAPTURE), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        ask = ("dig", "+tries=1", "+timeout=1", "@192.0.2.2")
        client.run(*ask, "one.example.com", check=False)
        assert process.stdout.readline() == "one\n"
        client.ip("link del eth0")
        assert any("eth0 is down" in line for line in process.stderr)
        client.ip(f"link add eth0 type veth peer name eth0 netns {server.name}")
        for number, end in ((1, client), (2, server)):
            end.ip(f"addr add 192.0.2.{number}/24 dev eth0")
            end.ip("link set eth0 up")
        assert any("eth0 is back" in line for line in process.stderr)
        client.run(*ask, "two.example.com", check=False)
        assert process.stdout.readline() == "two\n"
        process.terminate()
        output, errors = process.communicate(timeout=10)
        assert (output, errors, process.returncode) == ("", "", 0)


def test_systemd_unit_is_valid_and_tight(tmp_path: Path) -> None:
    """Systemd finds no mistake in the unit, and little that it leaves exposed (2.0 of 10)."""
    need("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/dnsqmon/bin/dnsqmon", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], check=True, capture_output=True, text=True
    )
    assert checked.stderr == ""
    subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "said"), [(0o700, "--user nobody may not read"), (0o755, "")])
def test_a_library_that_the_user_may_not_read_is_refused(
    tmp_path: Path, mode: int, said: str
) -> None:
    """Python loads parts of itself late: one in root's home would fail then, so it fails now."""
    need_root()
    for folder in (tmp_path.parents[1], tmp_path.parent):
        folder.chmod(0o755)
    tmp_path.chmod(mode)
    library = tmp_path / "os.py"
    library.touch()
    script = (
        "import os, sys\n"
        "from dnsqmon.core import errors\n"
        "from dnsqmon.sources import privileges\n"
        "privileges.drop('nobody')\n"
        "os.__file__ = sys.argv[1]\n"
        "try: privileges.check_library('nobody')\n"
        "except errors.ConfigError as error: print(error)"
    )
    done = subprocess.run(
        _python(script, str(library)), env=ENVIRONMENT, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(said)
    assert bool(done.stdout) == bool(said)
