"""From raw bytes to fields, CIM and tags: every road into Splunk, every day of the month."""

from __future__ import annotations

import calendar
import re
import shutil
from typing import TYPE_CHECKING, Callable, NamedTuple

import pcre2
import pytest

from needs import ROOT
from splunk_search_time import QUERY_FIELDS, App, Event, events_of

if TYPE_CHECKING:
    from pathlib import Path

REST = "sensor1,192.0.2.10,10653,198.51.100.53,53,A,www.example.com,com,example.com,3,45,ubf"
HEADER = (
    b"Date,Time,Hostname,SrcAddr,SrcPort,DstAddr,DstPort,RecordType,Domain,TLD,SLD,Levels,"
    b"Score,Flags"
)

#: The 17 extractions of the original's README, as they stand there.
SEED = {
    "LogDate": r"(?i)^(?P<LogDate>\w+\s+\d+)",
    "LogTime": r"(?i)^\w+\s+\d+\s+(?P<LogTime>[^ ]+)",
    "LogSender": r"(?i)^(?:[^ ]* ){3}(?P<LogSender>[^ ]+)",
    "QueryDate": r"(?i)^(?:[^ ]* ){5}(?P<QueryDate>[^,]+)",
    **{
        name: rf"(?i)^(?:[^,]*,){{{number}}}(?P<{name}>[^,]+)"
        for number, name in enumerate(QUERY_FIELDS[1:], 1)
    },
}


class Road(NamedTuple):
    """What a road makes of a record, and the three header fields that are expected then."""

    line: Callable[[int, str], str]
    day: str = "Dec {day:2}"
    time: str = "02:21:17"
    sender: str = "sensor1"


def _rfc3164(day: int, csv: str) -> str:
    return f"Dec {day:2} 02:21:17 sensor1 dnsQmon: {csv}"


def _rfc5424(day: int, csv: str) -> str:
    return f"1 2013-12-{day:02}T02:21:18.000123+01:00 sensor1 dnsQmon 417 - - {csv}"


def _hop(day: int) -> str:
    """Return what a Splunk UDP input prepends: its own time and the address of the sender."""
    return f"Dec {day:2} 02:21:19 203.0.113.9 "


ROADS = {
    "modular input": Road(_rfc3164),
    "modular input without header": Road(lambda _, csv: csv),
    "CSV file": Road(lambda _, csv: csv),
    "3164, UDP input": Road(lambda day, csv: _hop(day) + _rfc3164(day, csv)),
    "3164, UDP input, no_appending_timestamp": Road(_rfc3164),
    "3164, UDP input, no_priority_stripping": Road(
        lambda day, csv: _hop(day) + "<14>" + _rfc3164(day, csv)
    ),
    "3164, TCP input": Road(lambda day, csv: "<14>" + _rfc3164(day, csv)),
    "3164, octet counting": Road(lambda day, csv: "140 <14>" + _rfc3164(day, csv)),
    "5424, TCP input": Road(lambda day, csv: "<14>" + _rfc5424(day, csv), time="02:21:18"),
    "5424, UDP input": Road(lambda day, csv: _hop(day) + _rfc5424(day, csv), time="02:21:18"),
    "5424, BOM": Road(
        lambda day, csv: f"<14>1 2013-12-{day:02}T02:21:17Z sensor1 dnsQmon - - - \ufeff{csv}"
    ),
    "5424, structured data": Road(
        lambda day, csv: (
            f'1 2013-12-{day:02}T02:21:18Z sensor1 dnsQmon - - [meta@32473 seq="1,2"] {csv}'
        ),
        time="02:21:18",
    ),
    "5424, nil host": Road(lambda day, csv: f"1 2013-12-{day:02}T02:21:17Z - - - - - {csv}"),
    "rsyslog file, traditional": Road(_rfc3164),
    "rsyslog file, ISO 8601": Road(
        lambda day, csv: f"2013-12-{day:02}T02:21:17.123456+00:00 sensor1 dnsQmon: {csv}"
    ),
    "syslog-ng file": Road(_rfc3164),
    "syslog-ng file, ISO 8601": Road(
        lambda day, csv: f"2013-12-{day:02}T02:21:17+00:00 sensor1 dnsQmon: {csv}"
    ),
    "5424, rsyslog file, traditional": Road(
        lambda day, csv: f"Dec {day:2} 02:21:18 sensor1 dnsQmon {csv}", time="02:21:18"
    ),
    "5424, syslog-ng file": Road(
        lambda day, csv: f"Dec {day:2} 02:21:20 localhost {_rfc5424(day, csv)}", time="02:21:18"
    ),
    "5424, syslog-ng file, ISO 8601": Road(
        lambda day, csv: f"2013-12-{day:02}T02:21:20+00:00 localhost {_rfc5424(day, csv)}",
        time="02:21:18",
    ),
    "3164 behind a relay, ISO 8601": Road(
        lambda day, csv: f"2013-12-{day:02}T02:21:20+00:00 relay {_rfc3164(day, csv)}"
    ),
    "SC4S, header and message": Road(lambda _, csv: f"dnsQmon: {csv}"),
    "SC4S, message only": Road(lambda _, csv: csv),
    "SC4S, 5424": Road(_rfc5424, time="02:21:18"),
    "old sensor, raw": Road(lambda _, csv: f"<14> {csv}"),
    "old sensor, UDP input": Road(
        lambda day, csv: f"{_hop(day)} {csv}", time="02:21:19", sender="203.0.113.9"
    ),
    "old sensor, rsyslog file": Road(
        lambda day, csv: f"Dec {day:2} 02:21:17 203.0.113.9  {csv}", sender="203.0.113.9"
    ),
    "old sensor, syslog-ng file": Road(
        lambda day, csv: f"Dec {day:2} 02:21:17 203.0.113.9 {csv}", sender="203.0.113.9"
    ),
}


@pytest.fixture(name="app", scope="module")
def _app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """Return the app's confs, with lists of three lines each."""
    root = tmp_path_factory.mktemp("app")
    shutil.copytree(ROOT / "default", root / "default")
    shutil.copytree(ROOT / "lookups", root / "lookups")
    write_list(
        root, "watchlist", "domain,category,source,description\nwww.example.com,c2,own,Demo\n"
    )
    write_list(root, "commonlist", "domain,category\nexample.org,reserved\n")
    write_list(root, "serverlist", "ip,name,description\n198.51.100.0/24,resolver,Office\n")
    return App(root)


def write_list(root: Path, name: str, text: str) -> None:
    """Replace one of the three lists of a copy of the app."""
    (root / "lookups" / f"dnsqmon_{name}.csv").write_text(text, encoding="utf-8")


def record(day: int = 8, rest: str = REST) -> str:
    """Return the 14 fields of a record of a day in December 2013."""
    return f"12/{day:02}/2013,02:21:17,{rest}"


def one(app: App, line: str) -> Event:
    """Return the fields of the one event that a line makes."""
    (event,) = events_of(app, [line.encode()])
    return event


@pytest.mark.parametrize("name", ROADS)
def test_all_17_fields_on_every_day_of_the_month(app: App, name: str) -> None:
    """Each road gives the same 17 fields and the packet's time, days below 10 included."""
    road = ROADS[name]
    for day in range(1, 32):
        event = one(app, road.line(day, record(day)))
        expected = dict(zip(QUERY_FIELDS, record(day).split(",")))
        expected["LogDate"] = road.day.format(day=day)
        expected["LogTime"] = road.time
        expected["LogSender"] = road.sender
        assert {field: event.get(field) for field in expected} == expected
        assert float(event["_time"]) == calendar.timegm((2013, 12, day, 2, 21, 17))
        assert event["host"] == "sensor1"


def test_every_month_is_named(app: App) -> None:
    """A line without a header names the month of its record."""
    months = calendar.month_abbr[1:]
    for number, month in enumerate(months, 1):
        event = one(app, f"{number:02}/09/2025,02:21:17,{REST}")
        assert event["LogDate"] == f"{month}  9"


@pytest.mark.parametrize("day", range(10, 32))
def test_seed_extractions_agree_on_days_of_two_digits(app: App, day: int) -> None:
    """The original's own 17 EXTRACTs give the same values on an event of the modular input."""
    line = _rfc3164(day, record(day))
    event = one(app, line)
    for field, regex in SEED.items():
        assert pcre2.search(f"(?ms){regex}", line).group(field) == event[field], field


@pytest.mark.parametrize("day", range(10, 32))
def test_seed_extractions_agree_on_the_original_datagram(app: App, day: int) -> None:
    """Also for a datagram of an old sensor through a UDP input, for which they were written."""
    line = ROADS["old sensor, UDP input"].line(day, record(day))
    event = one(app, line)
    for field, regex in SEED.items():
        assert pcre2.search(f"(?ms){regex}", line).group(field) == event[field], field


def test_seed_extractions_break_on_padded_days() -> None:
    """What the app mends: on day 8 the original's EXTRACTs take the time for the sender."""
    line = _rfc3164(8, record(8))
    assert pcre2.search(SEED["LogSender"], line).group("LogSender") == "02:21:17"
    assert not pcre2.search(SEED["QueryDate"], line).group("QueryDate").startswith("12/08")


def test_csv_header_is_no_event(app: App) -> None:
    """The first line of a CSV file is dropped at index time, with a byte order mark too."""
    for bom in (b"", b"\xef\xbb\xbf"):
        events = app.index(bom + HEADER + b"\n" + record().encode() + b"\r\n", "dnsqmon")
        assert [event["_raw"] for event in events] == [record()]


def test_cim_fields_of_a_query(app: App) -> None:
    """An event has each field of CIM Network Resolution that a query-only sensor can give."""
    event = one(app, record())
    expected = {
        "src": "192.0.2.10", "src_port": "10653", "dest": "198.51.100.53", "dest_port": "53",
        "query": "www.example.com", "query_count": "1", "query_type": "Query",
        "message_type": "Query", "record_type": "A", "transport": "udp",
        "vendor_product": "dnsQmon", "dvc": "sensor1",
    }  # fmt: skip
    assert {field: event.get(field) for field in expected} == expected
    assert app.tags_of(event) == {"network", "resolution", "dns"}


def test_cim_forbidden_fields_are_absent(app: App) -> None:
    """Fields that Enterprise Security fills itself, and answers nobody saw, are not made up."""
    event = one(app, record())
    made_up = re.compile(
        r"(src|dest)_(bunit|category|priority)|answer.*|reply_code.*|response_time"
    )
    assert [field for field in event if made_up.fullmatch(field)] == []


def test_transport_that_is_known_stays(app: App) -> None:
    """A field that came with the event, as HEC's can, says more than the 14 fields do."""
    (event,) = app.index(record().encode(), "dnsqmon")
    assert app.search(event)["transport"] == "udp"
    assert app.search({**event, "transport": "tcp"})["transport"] == "tcp"


@pytest.mark.parametrize("ending", ["45,", "45"])
def test_no_flags_at_all(app: App, ending: str) -> None:
    """A line whose last field is empty or missing has all the others."""
    event = one(app, record(rest=REST.replace("45,ubf", ending)))
    assert (event["query"], event["score"], event.get("flags")) == ("www.example.com", "45", None)


def test_stream_names_of_the_fields(app: App) -> None:
    """Searches written for Splunk Stream find its names."""
    event = one(app, record())
    assert event["src_ip"] == event["src"]
    assert event["dest_ip"] == event["dest"]
    assert event["query{}"] == "www.example.com"
    assert event["query_type{}"] == "A"


def test_own_fields_flags_and_severity(app: App) -> None:
    """Score, flags and names have short names; each flag is a boolean; the score has a severity."""
    event = one(app, record())
    expected = {
        "tld": "com", "sld": "example.com", "levels": "3", "score": "45", "flags": "ubf",
        "sensor": "sensor1", "query_length": "15", "severity": "high", "severity_id": "4",
        "flag_uncommon": "true", "flag_watch": "true", "flag_first_seen": "true",
        "flag_long": "false", "flag_short": "false", "flag_server": "false", "flag_tld": "false",
    }  # fmt: skip
    assert {field: event.get(field) for field in expected} == expected


@pytest.mark.parametrize("letter", "ubflsdt")
def test_each_flag_alone(app: App, letter: str) -> None:
    """A flag sets its own boolean, which the flags table names, and no other."""
    (row,) = [row for row in app.table("dnsqmon_flags") if row["flag"] == letter]
    event = one(app, record(rest=REST.replace("ubf", letter)))
    assert [k for k in event if k.startswith("flag_") and event[k] == "true"] == [row["field"]]


def test_no_flags_is_seven_times_false(app: App) -> None:
    """`None` holds no flag."""
    event = one(app, record(rest=REST.replace("45,ubf", "0,None")))
    assert {event[k] for k in event if k.startswith("flag_")} == {"false"}
    assert event["severity"] == "informational"


@pytest.mark.parametrize(
    ("score", "severity"),
    [(-5, "informational"), (0, "informational"), (9, "informational"), (10, "low"), (19, "low"),
     (20, "medium"), (34, "medium"), (35, "high"), (49, "high"), (50, "critical"),
     (100, "critical"), (9999, "critical")],
)  # fmt: skip
def test_severity_of_a_score(app: App, score: int, severity: str) -> None:
    """Bands begin where the table says; scores beyond its ends, which relays take, have those."""
    assert one(app, record(rest=REST.replace(",45,", f",{score},")))["severity"] == severity


def test_lists_add_their_columns(app: App) -> None:
    """The watch, common and server lists say what they know of names and addresses."""
    event = one(app, record(rest=REST.replace("www.example.com", "WWW.Example.com")))
    assert event["watch_category"] == "c2"
    assert event["watch_source"] == "own"
    assert event["watch_description"] == "Demo"
    assert event["dest_server"] == "resolver"
    assert "src_server" not in event
    assert "common_category" not in event
    common = one(app, record(rest=REST.replace("example.com", "example.org")))
    assert common["common_category"] == "reserved"
    assert "watch_category" not in common


@pytest.mark.parametrize(
    ("mnemonic", "rare"), [("A", "false"), ("NULL", "true"), ("TYPE65280", None)]
)
def test_rare_record_types(app: App, mnemonic: str, rare: str | None) -> None:
    """The table knows which types are rare; one it does not list has no such field."""
    event = one(app, record(rest=REST.replace(",A,", f",{mnemonic},")))
    assert event.get("record_type_rare") == rare


def test_root_of_old_and_new_sensors(app: App) -> None:
    """The root is `.`, also where an old sensor wrote three empty fields."""
    rest = "roonet,192.0.2.10,1024,198.51.100.53,53,{},,,,1,16,ufst"
    old = one(app, record(rest=rest.format("A")))
    assert one(app, record(rest=rest.format("NSAP-PTR")))["query"] == "."
    new = one(app, record(rest="roonet,192.0.2.10,1024,198.51.100.53,53,A,.,.,.,1,16,ufst"))
    for event in (old, new):
        assert [event[name] for name in ("query", "tld", "sld", "score")] == [".", ".", ".", "16"]
        assert app.tags_of(event) == {"network", "resolution", "dns"}


def test_comma_in_a_name_of_an_old_sensor(app: App) -> None:
    """A comma that an old sensor left in a name does not shift score and flags."""
    event = one(app, record(rest=REST.replace("www.", "a,b.")))
    assert event["query"] == "a,b.example.com"
    assert (event["score"], event["flags"]) == ("45", "ubf")


def test_escaped_name_stays_as_it_is(app: App) -> None:
    """Names with escaped bytes, the longest included, come through whole."""
    name = "\\032\\044\\255" + ".x" * 400
    event = one(app, record(rest=REST.replace("www.example.com", name)))
    assert event["query"] == name


def test_ipv6_addresses(app: App) -> None:
    """IPv6 addresses are fields like any other."""
    event = one(app, record(rest=REST.replace("192.0.2.10", "2001:db8::10")))
    assert event["src"] == "2001:db8::10"


@pytest.mark.parametrize("year", [2004, 2014, 2026])
def test_time_of_old_captures_is_kept(app: App, year: int) -> None:
    """The time of a record is not replaced by now because the capture is old."""
    (event,) = app.index(record().replace("2013", str(year)).encode(), "dnsqmon", now=1_795_000_000)
    assert float(event["_time"]) == calendar.timegm((year, 12, 8, 2, 21, 17))


def test_line_that_is_no_record_has_no_fields(app: App) -> None:
    """Foreign lines of a shared syslog port get no half of a record, and no CIM tags."""
    event = one(app, "Dec  8 02:21:17 sensor1 sshd[1]: session opened")
    assert [k for k in event if k.startswith(("Query", "flag_", "query"))] == []
    assert app.tags_of(event) == set()


def test_statistics_event(app: App) -> None:
    """A statistics event has its keys as fields, and the time that it names."""
    line = '{"time": 1386469277.5, "sensor": "sensor1", "captured": 12, "loss_kernel_drops": 0}'
    (event,) = events_of(app, [line.encode()], "dnsqmon:stats")
    assert float(event["_time"]) == 1386469277.5
    assert (event["captured"], event["loss_kernel_drops"]) == ("12", "0")
    assert event["dvc"] == "sensor1"
    assert app.event_types(event) == ["dnsqmon_stats"]
