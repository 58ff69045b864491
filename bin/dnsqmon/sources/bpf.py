"""Chosen ports in, a classic BPF program out that lets only their packets reach this process.

The program is for a packet socket of any interface, or of all: it takes the EtherType and the kind
of link from the kernel's ancillary data. A VLAN tag that the kernel has moved into its auxiliary
data is already gone by then; further tags are still in the frame.

Instructions and offsets: linux/filter.h and linux/bpf_common.h, described in the kernel's
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dnsqmon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: More than this and the kernel refuses the program (BPF_MAXINSNS).
MAX_INSTRUCTIONS = 4096

#: VLAN tags in the frame that the program looks past. What is nested deeper goes to the decoder.
TAGS = 3

#: IPv6 extension headers that the program looks past. A longer chain goes to the decoder.
EXTENSION_HEADERS = 6

#: Kinds of link (ARPHRD_) whose frames have an Ethernet header: Ethernet itself, and loopback.
ETHERNET_LIKE = (1, 772)

_LOOPBACK = 772
_ETHERNET_HEADER = 14
_NETWORK_HEADER = 0x1_0000_0000 - 0x100000  # SKF_NET_OFF, as an unsigned 32-bit number
_ANCILLARY = 0x1_0000_0000 - 0x1000  # SKF_AD_OFF
_ETHER_TYPE, _PACKET_TYPE, _HARDWARE_TYPE = _ANCILLARY, _ANCILLARY + 4, _ANCILLARY + 28

_PACKET_OUTGOING = 4
_IPV4, _IPV6 = 0x0800, 0x86DD
_LLC = 0x0004  # ETH_P_802_2: a length stands in place of the EtherType
_VLAN = (0x8100, 0x88A8, 0x9100)  # 802.1Q, 802.1ad, and the number used before 802.1ad
_TCP, _UDP = 6, 17
_FRAGMENT, _AUTHENTICATION = 44, 51
_OPTION_HEADERS = (0, 43, 60, 135, 139, 140)  # RFC 7045: length in octet 1, in units of 8, less one

_LOAD_WORD, _LOAD_HALF_AT_X, _LOAD_BYTE_AT_X = 0x20, 0x48, 0x50
_LOAD_NUMBER, _LOAD_MEMORY, _STORE_MEMORY = 0x00, 0x60, 0x02
_X_NUMBER, _X_FROM_A, _A_FROM_X = 0x01, 0x07, 0x87
_ADD, _ADD_X, _AND, _SHIFT_LEFT = 0x04, 0x0C, 0x54, 0x64
_JUMP, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x05, 0x15, 0x45, 0x06


class Instruction(NamedTuple):
    """One `struct sock_filter`: operation, jump if true, jump if false, operand."""

    code: int
    true: int
    false: int
    operand: int


def port_filter(ports: Sequence[int], snap_length: int) -> list[Instruction]:
    """Accept UDP and TCP from or to any of `ports`, cut to `snap_length` octets; reject the rest.

    A fragment that is not the first of its IPv4 or IPv6 packet has no ports and is accepted.
    Tunnels are rejected: their volume is unknown, and few want them (`--filter` is for those).
    ConfigError if the ports are more than a program can hold, which is about 950.
    """
    program = _Assembler()
    _link_layer(program)
    _ipv4(program)
    _ipv6(program)
    program.label("ports")
    for offset in (0, 2):  # source, destination
        program.add(_LOAD_HALF_AT_X, offset)
        program.when_in(ports, "accept")
    program.label("reject")
    program.add(_RETURN, 0)
    program.label("accept")
    program.add(_RETURN, snap_length)
    instructions = program.instructions()
    if len(without_echo(instructions)) > MAX_INSTRUCTIONS:
        message = f"--ports: {len(ports)} are too many for the kernel's filter, use --filter"
        raise ConfigError(message)
    return instructions


def without_echo(program: Iterable[Instruction]) -> list[Instruction]:
    """Put in front of a program that a loopback device shows each packet once.

    Loopback hands a packet to packet sockets when it is sent and again when it is received.
    """
    return [
        Instruction(_LOAD_WORD, 0, 0, _PACKET_TYPE),
        Instruction(_JUMP_EQUAL, 0, 3, _PACKET_OUTGOING),
        Instruction(_LOAD_WORD, 0, 0, _HARDWARE_TYPE),
        Instruction(_JUMP_EQUAL, 0, 1, _LOOPBACK),
        Instruction(_RETURN, 0, 0, 0),
        *program,
    ]


def inverse(program: Iterable[Instruction]) -> list[Instruction]:
    """Accept one octet of what the program rejects, and reject what it accepts."""
    return [
        step._replace(operand=int(step.operand == 0)) if step.code == _RETURN else step
        for step in program
    ]


def by_link(ethernet: Sequence[Instruction], other: Sequence[Instruction]) -> list[Instruction]:
    """Join two programs: one for frames with an Ethernet header, one for packets without any."""
    first, second = ETHERNET_LIKE
    return [
        Instruction(_LOAD_WORD, 0, 0, _HARDWARE_TYPE),
        Instruction(_JUMP_EQUAL, 2, 0, first),
        Instruction(_JUMP_EQUAL, 1, 0, second),
        Instruction(_JUMP, 0, 0, len(ethernet)),
        *ethernet,
        *other,
    ]


def reject_all() -> list[Instruction]:
    """Reject every packet: how a capture is closed while its ring is read to the end."""
    return [Instruction(_RETURN, 0, 0, 0)]


def machine_code(program: Iterable[Instruction]) -> bytes:
    """Give the program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _link_layer(program: _Assembler) -> None:
    """Find the EtherType; leave in X where what it names begins."""
    program.add(_LOAD_WORD, _HARDWARE_TYPE)
    program.add(_X_NUMBER, _ETHERNET_HEADER)
    program.when_in(ETHERNET_LIKE, "ether type")
    program.add(_X_NUMBER, _NETWORK_HEADER)
    program.label("ether type")
    program.add(_LOAD_WORD, _ETHER_TYPE)
    program.when_in([_LLC], "llc")
    program.jump("type")
    program.label("llc")  # RFC 1042: DSAP and SSAP 0xAA, control, organisation, EtherType
    program.add(_LOAD_HALF_AT_X, 0)
    program.when_in([0xAAAA], "snap")
    program.jump("reject")
    program.label("snap")
    program.add(_LOAD_HALF_AT_X, 6)
    program.add(_STORE_MEMORY, 0)
    program.add(_LOAD_NUMBER, 8)
    _advance(program)
    program.label("type")
    for depth in range(TAGS):
        program.when_in([_IPV4], "ipv4")
        program.when_in([_IPV6], "ipv6")
        program.when_in(_VLAN, f"tag {depth}")
        program.jump("reject")
        program.label(f"tag {depth}")
        program.add(_LOAD_HALF_AT_X, 2)
        program.add(_STORE_MEMORY, 0)
        program.add(_LOAD_NUMBER, 4)
        _advance(program)
    program.when_in([_IPV4], "ipv4")
    program.when_in([_IPV6], "ipv6")
    program.when_in(_VLAN, "accept")
    program.jump("reject")


def _ipv4(program: _Assembler) -> None:
    """RFC 791: protocol in octet 9, fragment offset in the low 13 bits at 6, length at 0."""
    program.label("ipv4")
    program.add(_LOAD_BYTE_AT_X, 9)
    program.when_in([_UDP, _TCP], "ipv4 ports")
    program.jump("reject")
    program.label("ipv4 ports")
    program.add(_LOAD_HALF_AT_X, 6)
    program.when_any_bit(0x1FFF, "accept")
    program.add(_LOAD_BYTE_AT_X, 0)
    program.add(_AND, 0x0F)
    program.add(_SHIFT_LEFT, 2)
    program.add(_ADD_X)
    program.add(_X_FROM_A)
    program.jump("ports")


def _ipv6(program: _Assembler) -> None:
    """RFC 8200: walk the extension headers, unrolled because classic BPF cannot jump back."""
    program.label("ipv6")
    program.add(_LOAD_BYTE_AT_X, 6)
    program.add(_STORE_MEMORY, 0)
    program.add(_LOAD_NUMBER, 40)
    _advance(program)
    for depth in range(EXTENSION_HEADERS):
        program.when_in([_UDP, _TCP], "ports")
        program.when_in(_OPTION_HEADERS, f"options {depth}")
        program.when_in([_FRAGMENT], f"fragment {depth}")
        program.when_in([_AUTHENTICATION], f"authentication {depth}")
        program.jump("reject")

        program.label(f"fragment {depth}")
        program.add(_LOAD_HALF_AT_X, 2)
        program.when_any_bit(0xFFF8, "accept")
        _keep_next_header(program)
        program.add(_LOAD_NUMBER, 8)
        program.jump(f"next {depth}")

        program.label(f"authentication {depth}")  # RFC 4302: in units of 4, less two
        _keep_next_header(program)
        program.add(_LOAD_BYTE_AT_X, 1)
        program.add(_ADD, 2)
        program.add(_SHIFT_LEFT, 2)
        program.jump(f"next {depth}")

        program.label(f"options {depth}")
        _keep_next_header(program)
        program.add(_LOAD_BYTE_AT_X, 1)
        program.add(_ADD, 1)
        program.add(_SHIFT_LEFT, 3)

        program.label(f"next {depth}")
        _advance(program)
    program.when_in([_UDP, _TCP], "ports")
    program.when_in([*_OPTION_HEADERS, _FRAGMENT, _AUTHENTICATION], "accept")
    program.jump("reject")


def _keep_next_header(program: _Assembler) -> None:
    program.add(_LOAD_BYTE_AT_X, 0)
    program.add(_STORE_MEMORY, 0)


def _advance(program: _Assembler) -> None:
    """Move X on by A octets, and load the type of the header there, which was kept in memory."""
    program.add(_ADD_X)
    program.add(_X_FROM_A)
    program.add(_LOAD_MEMORY, 0)


class _Assembler:
    """Instructions with named places to jump forward to.

    A conditional jump reaches 255 instructions, an unconditional one any; so a condition here is
    always a pair: skip one instruction, or take it and jump.
    """

    def __init__(self) -> None:
        self._instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def add(self, code: int, operand: int = 0) -> None:
        self._instructions.append(Instruction(code, 0, 0, operand))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._instructions)

    def jump(self, label: str) -> None:
        self._jumps.append((len(self._instructions), label))
        self.add(_JUMP)

    def when_in(self, numbers: Iterable[int], label: str) -> None:
        for number in numbers:
            self._instructions.append(Instruction(_JUMP_EQUAL, 0, 1, number))
            self.jump(label)

    def when_any_bit(self, mask: int, label: str) -> None:
        self._instructions.append(Instruction(_JUMP_ANY_BIT, 0, 1, mask))
        self.jump(label)

    def instructions(self) -> list[Instruction]:
        program = list(self._instructions)
        for place, label in self._jumps:
            distance = self._labels[label] - place - 1
            program[place] = program[place]._replace(operand=distance)
        return program
