"""The right to capture: is it there, how to get it, and how to give up all rights for good."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from dnsqmon.core.errors import ConfigError

CAP_NET_RAW = 13  # linux/capability.h

_SETS = (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb")
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38


def can_capture() -> bool:
    """Say whether this process may open packet sockets."""
    return bool(_capabilities()[b"CapEff"] >> CAP_NET_RAW & 1)


def how_to_allow_capture() -> str:
    """Say in one line, with the exact commands, how to get the right to capture."""
    interpreter = os.path.realpath(sys.executable)
    return (
        "capturing needs the right CAP_NET_RAW: use the systemd unit, or start dnsqmon with sudo "
        "(it goes on as --user), or allow it to every script of this interpreter with "
        f"sudo setcap cap_net_raw+ep {interpreter}"
    )


def drop(user: str) -> None:
    """Keep no right but an ordinary user's: those of `user`, if started as root.

    Capabilities belong to a thread: call this before any other thread is started. ConfigError if
    there is no such user. Nothing can be regained, neither by this process nor by its children.
    """
    if os.name != "posix":
        return
    if os.geteuid() == 0:
        _become(user)
    if sys.platform == "linux":
        _drop_capabilities()


def check_library(user: str) -> None:
    """Make sure, after `drop`, that Python can still load what it loads late; else ConfigError."""
    if not os.access(os.__file__, os.R_OK):
        raise ConfigError(
            f"--user {user} may not read Python's library in {Path(os.__file__).parent}: install "
            "dnsqmon with a Python that everybody may read, as /usr/bin/python3, or give --user "
            "root, which keeps the user but no capability"
        )


def _drop_capabilities() -> None:
    """Keep no capability of this thread, and no way to one: capset(2), prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _become(user: str) -> None:
    import pwd  # noqa: PLC0415 - not on every system

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"--user {user}: there is no such user") from None
    if entry.pw_uid == 0:
        return
    try:
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except PermissionError as error:
        raise ConfigError(
            f"--user {user}: changing the user needs the rights CAP_SETUID and CAP_SETGID, which "
            "this root lacks (a container?); allow them, or stay with --user root"
        ) from error


def _capabilities() -> dict[bytes, int]:
    """Read the capability sets of this process (proc(5)) as bit masks."""
    lines = Path("/proc/self/status").read_bytes().splitlines()
    pairs = (line.split(b":\t", 1) for line in lines if line.startswith(_SETS))
    return {name: int(mask, 16) for name, mask in pairs}
