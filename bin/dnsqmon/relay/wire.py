"""The datagrams between two dnsqmon: the original's text, and the same text signed.

    dnsQmon-packet,<the 14 fields>
    dnsQmon-signed,1,<session>,<sequence>,<sent>,<mac>,<the 14 fields>

`session` is 16 hexadecimal digits drawn at random when a client starts, `sequence` counts its
datagrams from 1, `sent` is the epoch second of sending, and `mac` the HMAC-SHA256 (RFC 2104, 64
hexadecimal digits) of the whole datagram without `mac` and the comma after it. A server that
knows only the original's text ignores a signed datagram, since it looks for the tag.
"""

from __future__ import annotations

import calendar
import hmac
import os
import re
import secrets
import socket
import time
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from dnsqmon.core.errors import ConfigError
from dnsqmon.core.names import normalise
from dnsqmon.core.record import COLUMNS

if TYPE_CHECKING:
    from dnsqmon.core.record import Record

_Value = TypeVar("_Value", int, str)

TAG = b"dnsQmon-packet,"
SIGNED_TAG = b"dnsQmon-signed,"


class Refusal(Enum):
    """Why a datagram is refused."""

    NOT_ALLOWED = "its sender is in none of the networks of --allow"
    NO_TAG = "it is no datagram of dnsqmon"
    NOT_TEXT = "it holds octets that are not ASCII"
    FIELD_COUNT = "it has not 14 fields"
    BAD_DATE = "its field Date is not valid"
    BAD_TIME = "its field Time is not valid"
    BAD_HOSTNAME = "its field Hostname is not valid"
    BAD_SRCADDR = "its field SrcAddr is not valid"
    BAD_SRCPORT = "its field SrcPort is not valid"
    BAD_DSTADDR = "its field DstAddr is not valid"
    BAD_DSTPORT = "its field DstPort is not valid"
    BAD_RECORDTYPE = "its field RecordType is not valid"
    BAD_DOMAIN = "its field Domain is not valid"
    BAD_TLD = "its field TLD is not valid"
    BAD_SLD = "its field SLD is not valid"
    BAD_LEVELS = "its field Levels is not valid"
    BAD_SCORE = "its field Score is not valid"
    BAD_FLAGS = "its field Flags is not valid"
    UNSIGNED = "it is not signed, but this server has a --key-file"
    SIGNED = "it is signed, but this server has no --key-file"
    BAD_SIGNATURE = "its signature does not fit: another key, a forgery, or a damaged datagram"
    NOT_FRESH = "it was sent before the server started, or more than five minutes off its clock"
    REPLAYED = "it came before, or too late to tell"
    TOO_MANY_CLIENTS = "more signing clients than the server keeps count of"


class RefusedError(ValueError):
    """A datagram that is not taken."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Reader:
    """The 14 fields of a line to a record, each field checked.

    Dates are read in local time, or in UTC: the line does not say, as the original's did not.
    """

    def __init__(self, *, utc: bool = False) -> None:
        self._utc = utc
        self._moments: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {"": "."}

    def record(self, line: bytes) -> Record:
        """Read one line, without its tag; raises RefusedError."""
        try:
            text = line.decode("ascii")
        except UnicodeDecodeError:
            raise RefusedError(Refusal.NOT_TEXT) from None
        fields = text.rstrip("\r\n").split(",")
        if len(fields) != len(COLUMNS):
            raise RefusedError(Refusal.FIELD_COUNT)
        (date, clock, hostname, src, src_port, dst, dst_port, record_type, domain, tld, sld, levels,
         score, flags) = fields  # fmt: skip
        if not _HOSTNAME(hostname):
            raise RefusedError(Refusal.BAD_HOSTNAME)
        if not _RECORD_TYPE(record_type):
            raise RefusedError(Refusal.BAD_RECORDTYPE)
        if not _SCORE(score):
            raise RefusedError(Refusal.BAD_SCORE)
        if not _FLAGS(flags):
            raise RefusedError(Refusal.BAD_FLAGS)
        return (
            self._moment(date, clock),
            hostname,
            self._address(src, Refusal.BAD_SRCADDR),
            _number(src_port, 65535, Refusal.BAD_SRCPORT),
            self._address(dst, Refusal.BAD_DSTADDR),
            _number(dst_port, 65535, Refusal.BAD_DSTPORT),
            record_type,
            self._name(domain, Refusal.BAD_DOMAIN),
            self._name(tld, Refusal.BAD_TLD),
            self._name(sld, Refusal.BAD_SLD),
            _number(levels, 128, Refusal.BAD_LEVELS),
            int(score),
            flags,
            None,
            None,
            None,
        )

    def _moment(self, date: str, clock: str) -> int:
        moment = self._moments.get(date + clock)
        if moment is None:
            if not _DATE(date):
                raise RefusedError(Refusal.BAD_DATE)
            if not _TIME(clock):
                raise RefusedError(Refusal.BAD_TIME)
            try:
                parts = time.strptime(f"{date} {clock}", "%m/%d/%Y %H:%M:%S")
                seconds = calendar.timegm(parts) if self._utc else int(time.mktime(parts))
            except (ValueError, OverflowError):
                raise RefusedError(Refusal.BAD_DATE) from None
            moment = seconds * 1_000_000_000
            _remember(self._moments, date + clock, moment)
        return moment

    def _address(self, text: str, reason: Refusal) -> str:
        address = self._addresses.get(text)
        if address is None:
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            try:
                address = socket.inet_ntop(family, socket.inet_pton(family, text))
            except (OSError, ValueError):
                raise RefusedError(reason) from None
            _remember(self._addresses, text, address)
        return address

    def _name(self, text: str, reason: Refusal) -> str:
        name = self._names.get(text)
        if name is None:
            try:
                name = normalise(text)
            except ValueError:
                raise RefusedError(reason) from None
            _remember(self._names, text, name)
        return name


class Signer:
    """Signs the datagrams of one client, from its start to its end."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._session = secrets.token_hex(8).encode()
        self._sequence = 0

    def datagram(self, line: bytes) -> bytes:
        """Return the signed datagram of a line."""
        self._sequence += 1
        head = b"%b1,%b,%d,%d," % (SIGNED_TAG, self._session, self._sequence, time.time())
        mac = hmac.digest(self._key, head + line, "sha256").hex().encode()
        return b"%b%b,%b" % (head, mac, line)


def plain_datagram(line: bytes) -> bytes:
    """Return the original's datagram of a line."""
    return TAG + line


def read_key(path: str) -> bytes:
    """Read the key that clients and server share: one line of 32 characters or more."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - its permissions are asked of the open file
            open_to_all = os.fstat(file.fileno()).st_mode & 0o007
            key = file.read(65536).strip()
    except OSError as error:
        raise ConfigError(
            f"--key-file: cannot be read ({error.strerror}); name a readable file", where=path
        ) from error
    if open_to_all:
        raise ConfigError(
            f"--key-file: everybody on this machine can use this key; chmod o= {path}", where=path
        )
    if len(key) < 32 or b"\n" in key:
        raise ConfigError(
            "--key-file: give one line of 32 characters or more, e.g. from: openssl rand -hex 32",
            where=path,
        )
    return key


_HOSTNAME = re.compile(r"[A-Za-z0-9._:-]{1,255}").fullmatch
_RECORD_TYPE = re.compile(r"[A-Z][A-Z0-9-]{0,15}").fullmatch
_SCORE = re.compile(r"-?[0-9]{1,9}").fullmatch
#: The letters in their order; l and s exclude each other.
_FLAGS = re.compile(r"None|(?=.)u?b?f?[ls]?d?t?").fullmatch
_DATE = re.compile(r"[0-9]{2}/[0-9]{2}/[0-9]{4}").fullmatch
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}").fullmatch
#: How much each memory of a Reader holds, before it starts anew.
_REMEMBERED = 65536


def _number(text: str, most: int, reason: Refusal) -> int:
    # isdigit alone takes other scripts' digits, but the line is ASCII.
    if len(text) > 5 or not text.isdigit() or int(text) > most:
        raise RefusedError(reason)
    return int(text)


def _remember(memory: dict[str, _Value], key: str, value: _Value) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value
