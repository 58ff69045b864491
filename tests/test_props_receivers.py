"""Our syslog, through a real rsyslogd into files, gives the fields: what test_props assumes."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from dnsqmon.sinks.syslog import FORMATS, Messages
from forwarded import SECOND, batch
from needs import ROOT, need
from receivers import free_ports, wait_until
from splunk_search_time import QUERY_FIELDS, App, events_of
from udp_ports import is_bound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.once]

#: What a UDP input of Splunk indexes: its own time and the sender before what follows the PRI.
SPLUNK_UDP = "%timegenerated:::date-rfc3164% %fromhost-ip% %rawmsg-after-pri%\\n"
#: Templates that rsyslog writes files by; `""` stands for those that it brings itself.
TEMPLATES = {
    "splunk": SPLUNK_UDP,
    "splunk_tcp": "%rawmsg%\\n",
    "RSYSLOG_TraditionalFileFormat": "",
    "RSYSLOG_FileFormat": "",
    "RSYSLOG_SyslogProtocol23Format": "",
}


@pytest.fixture(name="received", scope="module")
def _received(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Send three records in each format, and give the folder of the files, one a template."""
    need("rsyslogd")
    folder = tmp_path_factory.mktemp("rsyslog")
    (port,) = free_ports(1)
    templates = "".join(
        f'template(name="{name}" type="string" string="{text}")\n'
        for name, text in TEMPLATES.items()
        if text
    )
    actions = "".join(
        f'action(type="omfile" file="{folder}/{name}.log" template="{name}")\n'
        for name in TEMPLATES
    )
    (folder / "rsyslog.conf").write_text(
        f'global(workDirectory="{folder}")\nmodule(load="imudp")\n{templates}'
        f'ruleset(name="all") {{ {actions} }}\n'
        f'input(type="imudp" address="127.0.0.1" port="{port}" ruleset="all")\n'
    )
    process = subprocess.Popen(
        ["rsyslogd", "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    )
    try:
        wait_until(lambda: is_bound(port), "rsyslogd listens")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for form in FORMATS:
                for message in Messages(form, "user", "info", utc=True)(batch(3)):
                    sender.sendto(message.encode(), ("127.0.0.1", port))
        files = [folder / f"{name}.log" for name in TEMPLATES]
        wanted = 3 * len(FORMATS)
        wait_until(
            lambda: all(f.exists() and f.read_bytes().count(b"\n") == wanted for f in files),
            "rsyslogd has written every message",
        )
        yield folder
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("template", TEMPLATES)
def test_fields_of_what_rsyslog_wrote(received: Path, template: str) -> None:
    """Every format of ours, in every file format of rsyslog's, gives the 17 fields and the time."""
    lines = (received / f"{template}.log").read_bytes().splitlines()
    events = events_of(App(ROOT), lines)
    assert len(events) == 3 * len(FORMATS)
    for number, event in enumerate(events):
        csv = batch(3).lines("csv")[number % 3].split(",")
        assert [event[name] for name in QUERY_FIELDS] == csv
        assert float(event["_time"]) == SECOND
        assert event["host"] == "sensor-1"
        form = list(FORMATS)[number // 3]
        if form == "original" and "splunk_tcp" not in template:
            assert event["LogSender"] in ("127.0.0.1", "localhost")
        else:
            assert (event["LogDate"], event["LogTime"]) == ("Jan  1", "15:38:51")
            assert event["LogSender"] == "sensor-1"
