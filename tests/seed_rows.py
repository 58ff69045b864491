"""The rows that the original's README shows, and record batches made of rows."""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING

from dnsqmon.core.record import COLUMNS
from dnsqmon.render.batch import Clock, Rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dnsqmon.core.record import Record

_SHOWN = """\
12/28/2013,02:21:17,roonet,10.18.24.123,10653,10.18.22.12,53,A,www.google.com,com,google.com,3,5,f
12/28/2013,02:21:17,roonet,10.18.24.123,56353,10.18.22.12,53,A,www.reddit.com,com,reddit.com,3,5,f
12/28/2013,02:21:18,roonet,10.18.24.123,49300,10.18.22.12,53,A,a.thumbs.redditmedia.com,com,redditmedia.com,4,10,uf
12/28/2013,02:21:18,roonet,10.18.24.123,28827,10.18.22.12,53,A,static.adzerk.net,net,adzerk.net,3,5,f
12/28/2013,02:21:18,roonet,10.18.24.123,46222,10.18.22.12,53,A,www.redditstatic.com,com,redditstatic.com,3,10,uf
12/28/2013,02:21:19,roonet,10.18.24.123,30873,10.18.22.12,53,A,en.wikipedia.org,org,wikipedia.org,3,5,f
12/28/2013,02:21:19,roonet,10.18.24.123,41991,10.18.22.12,53,A,imgur.com,com,imgur.com,2,5,f
12/28/2013,02:21:19,roonet,10.18.24.123,9430,10.18.22.12,53,A,ppcdn.500px.org,org,500px.org,3,5,f
12/28/2013,02:21:19,roonet,10.18.24.123,6511,10.18.22.12,53,A,soundcloud.com,com,soundcloud.com,2,5,f
12/28/2013,02:21:19,roonet,10.18.24.123,54498,10.18.22.12,53,A,tecidentity.com,com,tecidentity.com,2,10,uf
12/28/2013,02:21:20,roonet,10.18.24.123,11657,10.18.22.12,53,A,radioreddit.com,com,radioreddit.com,2,10,uf
12/28/2013,02:21:20,roonet,10.18.24.123,19023,10.18.22.12,53,A,reddit.tv,tv,reddit.tv,2,11,uft
12/28/2013,02:21:20,roonet,10.18.24.123,36195,10.18.22.12,53,A,redditgifts.com,com,redditgifts.com,2,5,f
12/28/2013,02:21:56,roonet,10.18.24.66,64859,10.18.22.12,53,A,android.googleapis.com,com,googleapis.com,3,5,f
12/28/2013,02:23:37,roonet,10.18.24.123,51383,10.18.22.12,53,PTR,lb._dns-sd._udp.roonet.com,com,roonet.com,5,10,uf
12/28/2013,02:23:38,roonet,10.18.24.123,51388,10.18.22.12,53,PTR,b._dns-sd._udp.64.24.18.10.in-addr.arpa,arpa,in-addr.arpa,9,15,ufl
12/28/2013,02:23:38,roonet,10.18.24.123,56279,10.18.22.12,53,PTR,db._dns-sd._udp.64.24.18.10.in-addr.arpa,arpa,in-addr.arpa,9,10,ul
12/28/2013,02:23:38,roonet,10.18.24.123,52258,10.18.22.12,53,PTR,b._dns-sd._udp.roonet.com,com,roonet.com,5,5,u
12/28/2013,02:27:46,roonet,10.18.24.123,49659,10.18.22.12,53,A,wq1porm.s3.amazonaws.com,com,amazonaws.com,4,40,bf
12/28/2013,02:45:33,roonet,10.18.24.123,50810,10.18.22.12,53,A,lh5.googleusercontent.com,com,googleusercontent.com,3,5,f
12/28/2013,02:52:03,roonet,10.18.24.123,48590,10.18.22.12,53,A,www.google-analytics.com,com,google-analytics.com,3,5,f
12/28/2013,03:25:46,roonet,10.18.24.123,3294,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,45,uft
12/28/2013,11:57:09,roonet,10.18.24.101,61722,10.18.22.12,53,A,204st.us,us,204st.us,2,11,uft
12/28/2013,12:10:25,roonet,10.18.23.40,64786,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,40,ut
12/28/2013,13:33:45,roonet,10.18.24.101,62667,10.18.22.12,53,A,mc.yandex.ru,ru,yandex.ru,3,40,ft
12/28/2013,19:53:42,roonet,10.18.24.66,62487,10.18.22.12,53,A,s3.amazonaws.com,com,amazonaws.com,3,35,b
12/28/2013,20:25:12,roonet,10.18.23.40,58101,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,40,ut
12/28/2013,20:26:24,roonet,10.18.23.40,59262,10.18.22.12,53,A,s3.amazonaws.com,com,amazonaws.com,3,35,b
12/28/2013,23:05:18,roonet,10.18.23.40,50717,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,40,ut
12/28/2013,23:55:46,roonet,10.18.24.101,52421,10.18.22.12,53,A,s3.amazonaws.com,com,amazonaws.com,3,35,b
12/28/2013,23:59:22,roonet,10.18.24.101,59823,10.18.22.12,53,A,s3.amazonaws.com,com,amazonaws.com,3,35,b
12/31/2013,13:20:32,roonet,10.18.23.40,62364,10.18.22.12,53,A,horadric.ru,ru,horadric.ru,2,40,ut
12/31/2013,15:46:31,roonet,10.18.23.35,60775,10.18.22.12,53,AAAA,google.1234567890.123456890.1234590.ru,ru,1234590.ru,5,45,ult
01/03/2014,11:02:39,roonet,10.18.22.12,35701,208.67.220.220,53,A,ge.tt,tt,ge.tt,2,41,bsdt
01/06/2014,17:23:22,roonet,10.18.22.12,2035,208.67.220.220,53,A,mkln.ru,ru,mkln.ru,2,40,udt
01/07/2014,13:37:46,roonet,10.18.22.12,36369,208.67.220.220,53,A,helplinux.ru,ru,helplinux.ru,2,40,udt
01/07/2014,13:37:46,roonet,10.18.22.12,34881,208.67.220.220,53,A,www.helplinux.ru,ru,helplinux.ru,3,40,udt
01/07/2014,23:34:03,roonet,10.18.24.123,56865,10.18.22.12,53,A,www.babycenter.ru,ru,babycenter.ru,3,40,ut
01/08/2014,23:50:06,roonet,10.18.22.12,37083,208.67.222.222,53,A,oflex.ru,ru,oflex.ru,2,40,udt
01/09/2014,10:03:27,roonet,10.18.24.66,14883,10.18.22.12,53,A,ad.yieldmanager.com,com,yieldmanager.com,3,35,b
"""

#: Every row of the six samples, oldest first; the source port is different in each.
SEED_ROWS = [line.split(",") for line in _SHOWN.splitlines()]


def record(row: Sequence[str]) -> Record:
    """Make the record of a row of text; its date and time are taken as UTC."""
    date, clock_time, hostname, src, src_port, dst, dst_port, *names, levels, score, flags = row
    record_type, domain, tld, sld = names
    moment = time.strptime(f"{date} {clock_time}", "%m/%d/%Y %H:%M:%S")
    return (
        calendar.timegm(moment) * 1_000_000_000, hostname, src, int(src_port), dst, int(dst_port),
        record_type, domain, tld, sld, int(levels), int(score), flags, "udp", 1, {},
    )  # fmt: skip


def batch_of(rows: Sequence[Sequence[str]]) -> Rendered:
    """Make a batch that renders as `rows`."""
    return Rendered([record(row) for row in rows], Clock(utc=True))


def lines_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as the lines of a CSV file."""
    return [",".join(row) for row in rows]


HEADER = ",".join(COLUMNS)
