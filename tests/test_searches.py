"""The saved searches, run over events of ours: each alert fires on what it is for, and not else."""

from __future__ import annotations

import re
import shutil
import time
from typing import TYPE_CHECKING, Callable

import pytest

from browser import expressions, spl
from browser.events import Index
from browser.spl import Knowledge, Results, Window, run
from needs import ROOT
from splunk_search_time import read_conf

if TYPE_CHECKING:
    from pathlib import Path

SAVED = read_conf(ROOT / "default/savedsearches.conf")
#: When the searches run: 12 h into a day, in seconds since the epoch.
NOW = 1_772_452_800.0


@pytest.fixture(name="index")
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Return an empty index below the app's confs, with the commands of saved searches."""
    for folder in ("default", "lookups"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "lookups/dnsqmon_serverlist.csv").write_text(
        "ip,name,description\n198.51.100.53,resolver,\n", encoding="utf-8"
    )
    index = Index(tmp_path)
    collection = index.collections.setdefault("dnsqmon_first_seen", [])
    commands: dict[str, Callable[[Results, str, Window, Knowledge], Results]] = {
        "addinfo": _addinfo,
        "dedup": _dedup,
        "head": lambda found, count, *_: found._replace(rows=found.rows[: int(count)]),
        "inputlookup": lambda *_: Results([], [dict(row) for row in collection]),
        "outputlookup": lambda found, how, *_: _store(collection, found, how),
        "tstats": _tstats,
    }
    for name, command in commands.items():
        monkeypatch.setitem(spl.COMMANDS, name, command)
    functions: dict[str, Callable[..., object]] = {
        "mvappend": lambda *values: [one for value in values for one in _listed(value)],
        "mvdedup": lambda values: list(dict.fromkeys(_listed(values))),
        "mvindex": lambda values, at, to=None: (
            _listed(values)[at] if to is None else _listed(values)[at : to + 1]
        ),
        "mvsort": lambda values: sorted(map(str, _listed(values))),
    }
    for name, function in functions.items():
        monkeypatch.setitem(expressions.FUNCTIONS, name, function)
    return index


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _addinfo(found: Results, _words: str, window: Window, _known: Knowledge) -> Results:
    rows = [{**row, "info_min_time": window.earliest} for row in found.rows]
    return found._replace(rows=rows)


def _dedup(found: Results, field: str, *_: object) -> Results:
    return found._replace(
        rows=list({row[field]: row for row in reversed(found.rows)}.values())[::-1]
    )


def _store(collection: list[dict[str, str]], found: Results, how: str) -> Results:
    kept = {row["_key"]: row for row in collection} if "append=true" in how else {}
    kept.update({str(row["_key"]): dict(row) for row in found.rows})
    collection[:] = list(kept.values())
    return found


def _tstats(found: Results, words: str, window: Window, known: Knowledge) -> Results:
    functions, where, by = re.split(r" WHERE | BY ", words)
    latest = functions.replace("latest(", "max(")
    return run(f"search {where} | stats {latest} BY {by}", found, window, known)


def search(
    index: Index, name: str, *, hours: float = 24, servers: int = 1
) -> list[dict[str, object]]:
    """Run a saved search over the last hours, as at NOW; `servers` are listed."""
    text = SAVED[f"dnsQmon - {name}"]["search"].replace("\n", " ")
    text = re.sub(r"\b_index_(?:earliest|latest)=\S+", "", text)
    text = re.sub(r"\[\| inputlookup .*?\]", str(servers), text)
    window = Window(NOW - 3600 * hours, NOW, NOW)
    found = run(text, Results([], index.within(window)), window, index.knowledge)
    return [dict(row) for row in found.rows]


def line(seconds_ago: float, query: str = "www.example.com", **fields: object) -> str:
    """Write a record: who asked what so many seconds before NOW."""
    values = {
        "src": "192.0.2.10", "dest": "198.51.100.53", "type": "A", "score": 0, "flags": "None",
        "port": 53, **fields,
    }  # fmt: skip
    stamp = time.strftime("%m/%d/%Y,%H:%M:%S", time.gmtime(NOW - seconds_ago))
    labels = query.split(".")
    sld = ".".join(labels[-2:])
    return (
        f"{stamp},sensor1,{values['src']},4000,{values['dest']},{values['port']},{values['type']},"
        f"{query},{labels[-1]},{sld},{len(labels)},{values['score']},{values['flags']}"
    )


def statistics(
    seconds_ago: float, sensor: str = "sensor1", feed: str = "any", **counts: int
) -> str:
    """Write a statistics event of a sensor's input `feed`."""
    members = "".join(f', "{name}": {count}' for name, count in counts.items())
    return (
        f'{{"time": {NOW - seconds_ago:.3f}, "sensor": "{sensor}",'
        f' "input": "dns_query_monitor://{feed}"{members}}}'
    )


def only(rows: list[dict[str, object]], *fields: str) -> list[tuple[object, ...]]:
    """Return some fields of each row, which all carry a risk."""
    for row in rows:
        assert row["risk_object_type"] in ("system", "other")
        assert row["risk_object"]
        assert float(str(row["risk_score"])) > 0
        assert row["risk_message"]
    return sorted(tuple(row[field] for field in fields) for row in rows)


def test_watch_hit(index: Index) -> None:
    """A name with flag b is reported once for each client, with the sum of its queries."""
    hit = {"score": 40, "flags": "bf"}
    index.add([line(60, "c2.example", **hit), line(50, "c2.example", **hit), line(40)], "dnsqmon")
    found = search(index, "Alert - Watch list hit")
    assert only(found, "src", "query", "query_count", "risk_score") == [
        ("192.0.2.10", "c2.example", 2, 40)
    ]


def test_high_score(index: Index) -> None:
    """The threshold is inclusive."""
    index.add(
        [line(9, "a.ru", score=25, flags="t"), line(8, "b.ru", score=24, flags="t")], "dnsqmon"
    )
    assert only(search(index, "Alert - High score"), "query", "score") == [("a.ru", 25)]


def test_newly_seen_uncommon_domain(index: Index) -> None:
    """Only a domain that no sensor saw before the window is reported."""
    index.collections["dnsqmon_first_seen"][:] = [
        {"_key": "old.example", "sld": "old.example", "first_seen": str(NOW - 9e6)},
        {"_key": "new.example", "sld": "new.example", "first_seen": str(NOW - 60)},
    ]
    names = ("a.old.example", "a.new.example", "a.unheard.example")
    index.add([line(60, name, flags="u", score=5) for name in names], "dnsqmon")
    index.add([line(60, "common.example", flags="f", score=5)], "dnsqmon")
    found = search(index, "Alert - Newly seen uncommon domain", hours=1)
    assert only(found, "sld") == [("new.example",), ("unheard.example",)]


def test_tunnel(index: Index) -> None:
    """Many long names below one domain are a tunnel; few of them, or short ones, are not."""
    data = "x" * 40
    index.add([line(n, f"{data}{n}.tunnel.example") for n in range(1, 101)], "dnsqmon")
    index.add([line(n, f"{data}{n}.few.example") for n in range(1, 100)], "dnsqmon")
    index.add([line(n, f"h{n}.short.example") for n in range(1, 101)], "dnsqmon")
    found = search(index, "Alert - Tunnel-like subdomains", hours=1)
    assert only(found, "src", "sld", "names") == [("192.0.2.10", "tunnel.example", 100)]


def test_beacon(index: Index) -> None:
    """Equal gaps are a beacon, A and AAAA each for itself; ragged or few gaps are not."""
    index.add([line(300 * n, "c2.example", flags="u") for n in range(1, 13)], "dnsqmon")
    six = [line(300 * n + 1, "c2.example", flags="u", type="AAAA") for n in range(1, 7)]
    ragged = [line(300 * n + n * n, "news.example", flags="u") for n in range(1, 21)]
    index.add(six + ragged, "dnsqmon")
    found = search(index, "Alert - Beaconing")
    assert only(found, "src", "query", "record_type", "gaps", "mean_gap") == [
        ("192.0.2.10", "c2.example", "A", 11, 300)
    ]


def test_ptr_sweep(index: Index) -> None:
    """80 reverse names by one client are a sweep, but not by a DNS server."""
    names = [f"{n}.2.0.192.in-addr.arpa" for n in range(80)]
    index.add([line(9, name, type="PTR") for name in names], "dnsqmon")
    index.add(
        [line(9, name, type="PTR", src="198.51.100.53", flags="d") for name in names], "dnsqmon"
    )
    index.add([line(9, name, type="PTR", src="192.0.2.11") for name in names[1:]], "dnsqmon")
    assert only(search(index, "Alert - PTR sweep"), "src", "names") == [("192.0.2.10", 80)]


def test_bypass(index: Index) -> None:
    """Who asks a server that is not listed is reported, unless it is a listed server itself."""
    index.add(
        [
            line(9),
            line(8, src="192.0.2.66", dest="203.0.113.8"),
            line(7, src="198.51.100.53", dest="203.0.113.8", flags="d"),
            line(6, src="192.0.2.67", dest="224.0.0.251", port=5353),
        ],
        "dnsqmon",
    )
    found = search(index, "Alert - Client bypasses the listed servers")
    assert only(found, "src", "dest") == [("192.0.2.66", "203.0.113.8")]
    # While no server is listed, nobody bypasses any.
    assert search(index, "Alert - Client bypasses the listed servers", servers=0) == []


def test_rare_type(index: Index) -> None:
    """A type that the table calls rare, or does not know, is reported."""
    index.add([line(9, type=kind) for kind in ("A", "TXT", "NULL", "TYPE65280")], "dnsqmon")
    found = search(index, "Alert - Rare record type")
    assert only(found, "record_type") == [("NULL",), ("TYPE65280",)]


def test_sensor_silent(index: Index) -> None:
    """Statistics count as a sign of life; each input without any for 15 minutes is reported."""
    index.add([line(3600)], "dnsqmon")
    feeds = [(60, "sensor2", "a"), (1000, "sensor2", "b"), (900, "sensor3", "a")]
    index.add([statistics(*feed) for feed in feeds], "dnsqmon:stats")
    for event in index.events:  # as the stream gives them, and a forwarded file
        event["host"] = event.get("sensor", event["host"])
        event["source"] = event.get("input", f"/var/log/{event['_time']}.csv")
    found = search(index, "Alert - Sensor silent")
    assert only(found, "sensor", "input", "silent_minutes") == [
        ("sensor1", "other", 60),
        ("sensor2", "dns_query_monitor://b", 17),
        ("sensor3", "dns_query_monitor://a", 15),
    ]


def test_files_that_are_rotated_are_no_silence(index: Index) -> None:
    """What comes by other roads is one input of a sensor, whatever its sources are called."""
    index.add([line(3600), line(60)], "dnsqmon")
    for event in index.events:
        event["source"] = f"/var/log/{event['_time']}.csv"
    assert search(index, "Alert - Sensor silent") == []


def test_sensor_loss(index: Index) -> None:
    """Losses of one percent are reported, whatever the reason."""
    index.add(
        [
            statistics(60, captured=500, loss_kernel_dropped=4, loss_splunkd_gone=1),
            statistics(30, captured=500, loss_kernel_dropped=5),
            statistics(30, "sensor2", captured=1000, loss_kernel_dropped=9, refused_response=500),
        ],
        "dnsqmon:stats",
    )
    found = search(index, "Alert - Sensor loses packets")
    assert only(found, "sensor", "lost", "loss_percent") == [("sensor1", 10, 1)]


def test_list_stale(index: Index) -> None:
    """A watch list of 30 days is reported; the server list, which seldom changes, is not."""
    days = 86400
    index.add(
        [
            statistics(60, watchlist_age=31 * days, commonlist_age=2 * days),
            statistics(60, "sensor2", watchlist_age=29 * days, serverlist_age=900 * days),
            statistics(50, "sensor2", "b", commonlist_age=30 * days),
            statistics(40, "sensor2", "a", commonlist_age=1 * days),
        ],
        "dnsqmon:stats",
    )
    found = search(index, "Alert - List is stale")
    assert only(found, "sensor", "input", "list", "age_days") == [
        ("sensor1", "dns_query_monitor://any", "watchlist", 31),
        ("sensor2", "dns_query_monitor://b", "commonlist", 30),
    ]


def test_fleet_wide_first_seen_is_kept(index: Index) -> None:
    """New domains are added, known ones updated: first, last, count and every sensor."""
    keep = "Keep fleet-wide first seen"
    index.add([line(3000, "a.one.example"), line(2000, "b.one.example")], "dnsqmon")
    search(index, keep)
    index.events.clear()
    other = line(1000, "a.one.example").replace("sensor1", "sensor2")
    index.add([other, line(500, "two.example")], "dnsqmon")
    search(index, keep)
    kept = {row["sld"]: row for row in index.collections["dnsqmon_first_seen"]}
    assert kept.keys() == {"one.example", "two.example"}
    one = kept["one.example"]
    assert (float(one["first_seen"]), float(one["last_seen"])) == (NOW - 3000, NOW - 1000)
    assert (int(one["query_count"]), one["sensors"]) == (3, "sensor1 sensor2")


def test_first_seen_is_bounded(index: Index) -> None:
    """Domains that were not seen for a year are forgotten."""
    index.collections["dnsqmon_first_seen"][:] = [
        {"_key": name, "sld": name, "last_seen": str(NOW - days * 86400)}
        for name, days in (("old.example", 366), ("young.example", 364))
    ]
    search(index, "Forget domains not seen for long")
    assert [row["sld"] for row in index.collections["dnsqmon_first_seen"]] == ["young.example"]


#: The rows of the original's README, by which its sample queries are answered.
SEED_ROWS = """\
12/28/2013,02:21:17,roonet,10.18.24.123,10653,10.18.22.12,53,A,www.google.com,com,google.com,3,5,f
12/28/2013,02:21:18,roonet,10.18.24.123,49300,10.18.22.12,53,A,a.thumbs.redditmedia.com,com,redditmedia.com,4,10,uf
12/28/2013,02:23:38,roonet,10.18.24.123,51388,10.18.22.12,53,PTR,b._dns-sd._udp.64.24.18.10.in-addr.arpa,arpa,in-addr.arpa,9,15,ufl
12/28/2013,03:25:46,roonet,10.18.24.123,3294,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,45,uft
12/28/2013,11:57:09,roonet,10.18.24.101,61722,10.18.22.12,53,A,204st.us,us,204st.us,2,11,uft
12/28/2013,12:10:25,roonet,10.18.23.40,64786,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,40,ut
12/28/2013,19:53:42,roonet,10.18.24.66,62487,10.18.22.12,53,A,s3.amazonaws.com,com,amazonaws.com,3,35,b
""".splitlines()


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("First appearance of all domains", [0, 1, 2, 3, 4]),
        ("Watch list or score of 20 and more", [6, 5, 3]),
        ("Queries by keyword", [1, 0]),
        ("Score in a date and time range", [5, 4]),
        ("Top 10 domains by score", [3, 6]),
        ("Queries of one client", [2]),
    ],
)
def test_seed_questions(index: Index, report: str, expected: list[int]) -> None:
    """The original's questions give the original's rows, in its columns."""
    index.add(SEED_ROWS, "dnsqmon")
    text = SAVED[f"dnsQmon - {report}"]["search"].replace("\n", " ")
    text = re.sub(r' (?:earliest|latest)="[^"]+"', "", text)
    window = Window(0, NOW, NOW)
    found = run(text, Results([], index.within(window)), window, index.knowledge)
    assert [",".join(str(row[field]) for field in found.fields) for row in found.rows] == [
        SEED_ROWS[number] for number in expected
    ]
