"""Real syslog receivers on loopback ports: rsyslog, and syslog-ng unpacked beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from needs import missing, need

if TYPE_CHECKING:
    from collections.abc import Sequence

_RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k" {driver})
module(load="imudp")
module(load="imptcp")
module(load="imtcp" {tls})
template(name="json" type="list" option.jsonf="on") {{
  property(outname="input" name="inputname" format="jsonf")
  property(outname="pri" name="pri" format="jsonf")
  property(outname="version" name="protocol-version" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="program" name="app-name" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
  property(outname="raw" name="rawmsg" format="jsonf")
}}
ruleset(name="all") {{ action(type="omfile" file="{folder}/out.json" template="json") }}
input(type="imudp" address="127.0.0.1" port="{udp}" rcvbufSize="4m" ruleset="all")
input(type="imptcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tls_port}" ruleset="all")
"""

_SYSLOG_NG = """
@version: 3.38
options {{ keep-hostname(yes); flush-lines(1); stats-freq(0); }};
source all {{
  network(transport("udp") ip("127.0.0.1") port({udp}) so-rcvbuf(4194304));
  network(transport("tcp") ip("127.0.0.1") port({tcp}));
  syslog(transport("tcp") ip("127.0.0.1") port({counted}));
}};
destination out {{ file("{folder}/out.tsv" template(
  "$HOST\\t$PROGRAM\\t$FACILITY\\t$LEVEL\\t$R_ISODATE\\t$S_ISODATE\\t$MESSAGE\\n")); }};
log {{ source(all); destination(out); }};
"""
_SYSLOG_NG_PACKAGES = ("syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0")


class Rsyslog:
    """An rsyslogd of our own: UDP, TCP (either framing), and TLS where certificates are given.

    `ca` and `certificate` (which holds its key too) are PEM files; with `ask_client`, only
    clients with a certificate of that CA are let in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        ask_client: bool = False,
    ) -> None:
        need("rsyslogd")
        if certificate and not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_ossl.so")):
            missing("rsyslog-openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.udp, self.tcp, self.tls = free_ports(3)
        driver = tls = ""
        if certificate:
            driver = (
                f'defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{ca}" '
                f'defaultNetstreamDriverCertFile="{certificate}" '
                f'defaultNetstreamDriverKeyFile="{certificate}"'
            )
            mode = "x509/certvalid" if ask_client else "anon"
            tls = f'streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="{mode}"'
        (folder / "rsyslog.conf").write_text(
            _RSYSLOG.format(
                folder=folder, driver=driver, tls=tls, udp=self.udp, tcp=self.tcp, tls_port=self.tls
            )
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, again after `kill`, on the same ports."""
        conf, pid = self.folder / "rsyslog.conf", self.folder / "pid"
        pid.unlink(missing_ok=True)
        command = ["rsyslogd", "-n", "-f", str(conf), "-i", str(pid)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: listens(self.tcp) and listens(self.tls), "rsyslogd listens")

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def messages(self) -> list[dict[str, str]]:
        """Return what came so far, in whole lines."""
        out = self.folder / "out.json"
        if not out.exists():
            return []
        return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1] if line]

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None


class SyslogNg:
    """A syslog-ng of our own: UDP, TCP with newlines, and TCP with octet counts (`counted`).

    Debian lets only one of rsyslog and syslog-ng be installed, so its packages are unpacked into
    the folder `cache`, once.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        root = _unpacked(cache)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.udp, self.tcp, self.counted = free_ports(3)
        (folder / "syslog-ng.conf").write_text(
            _SYSLOG_NG.format(folder=folder, udp=self.udp, tcp=self.tcp, counted=self.counted)
        )
        libraries = [str(path) for path in (*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*"))]
        modules = str(next(root.glob("usr/lib/syslog-ng/*")))
        libraries.append(str(Path(modules).parent))
        command = [
            str(root / "usr/sbin/syslog-ng"), "-F", "--no-caps", "--module-path", modules,
            "-f", str(folder / "syslog-ng.conf"), "-R", str(folder / "persist"),
            "-c", str(folder / "control"), "-p", str(folder / "pid"),
        ]  # fmt: skip
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait_until(lambda: listens(self.tcp) and listens(self.counted), "syslog-ng listens")

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait(10)

    def messages(self) -> list[dict[str, str]]:
        """Return what came so far, in whole lines."""
        out = self.folder / "out.tsv"
        if not out.exists():
            return []
        names = ("host", "program", "facility", "severity", "received", "time", "message")
        lines = out.read_text().split("\n")[:-1]
        return [dict(zip(names, line.split("\t", len(names) - 1))) for line in lines]


def free_ports(count: int) -> Sequence[int]:
    """Return ports that nobody listens on, UDP and TCP."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listens(port: int) -> bool:
    """Say whether a TCP connection to the port can be made."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for something that happens soon; fail when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds:g} s: {what}")
        time.sleep(0.02)


def is_asleep(pid: int | str | None) -> bool:
    """Say whether a process waits for something: proc(5), the state in /proc/PID/stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")


def _unpacked(cache: Path) -> Path:
    root = cache / "root"
    if not (root / "usr/sbin/syslog-ng").exists():
        need("apt-get", "dpkg")
        fetched = subprocess.run(
            ["apt-get", "download", *_SYSLOG_NG_PACKAGES],
            cwd=cache,
            capture_output=True,
            check=False,
        )
        if fetched.returncode:
            missing("the Debian packages " + " ".join(_SYSLOG_NG_PACKAGES))
        for package in cache.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    assert shutil.which(str(root / "usr/sbin/syslog-ng"))
    return root
