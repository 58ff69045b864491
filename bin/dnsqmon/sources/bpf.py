"""Chosen ports in, a classic BPF program out that lets only their packets reach this process.

The program is for a packet socket of any interface, or of all: it takes the EtherType and the kind
of link from the kernel's ancillary data. A VLAN tag that the kernel has moved into its auxiliary
data is already gone by then; further tags are still in the frame.

Instructions and offsets: linux/filter.h and linux/bpf_common.h, described in the kernel's
Documentation/networking/filter.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnsqmon.core.errors import ConfigError
from dnsqmon.sources.bpf_assembler import (
    ADD,
    ADD_X,
    AND,
    JUMP,
    JUMP_EQUAL,
    LOAD_BYTE_AT_X,
    LOAD_HALF_AT_X,
    LOAD_MEMORY,
    LOAD_NUMBER,
    LOAD_WORD,
    RETURN,
    SHIFT_LEFT,
    STORE_MEMORY,
    X_FROM_A,
    X_NUMBER,
    Assembler,
    Instruction,
)

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


def port_filter(ports: Sequence[int], snap_length: int) -> list[Instruction]:
    """Accept UDP and TCP from or to any of `ports`, cut to `snap_length` octets; reject the rest.

    A fragment that is not the first of its IPv4 or IPv6 packet has no ports and is accepted.
    Tunnels are rejected: their volume is unknown, and few want them (`--filter` is for those).
    ConfigError if the ports are more than a program can hold, which is about 950.
    """
    program = Assembler()
    _link_layer(program)
    _ipv4(program)
    _ipv6(program)
    program.label("ports")
    for offset in (0, 2):  # source, destination
        program.add(LOAD_HALF_AT_X, offset)
        program.when_in(ports, "accept")
    program.label("reject")
    program.add(RETURN, 0)
    program.label("accept")
    program.add(RETURN, snap_length)
    instructions = program.instructions()
    if len(without_echo(instructions)) > MAX_INSTRUCTIONS:
        raise ConfigError(
            f"--ports: {len(ports)} are too many for the kernel's filter, use --filter"
        )
    return instructions


def without_echo(program: Iterable[Instruction]) -> list[Instruction]:
    """Put in front of a program that a loopback device shows each packet once.

    Loopback hands a packet to packet sockets when it is sent and again when it is received.
    """
    return [
        Instruction(LOAD_WORD, 0, 0, _PACKET_TYPE),
        Instruction(JUMP_EQUAL, 0, 3, _PACKET_OUTGOING),
        Instruction(LOAD_WORD, 0, 0, _HARDWARE_TYPE),
        Instruction(JUMP_EQUAL, 0, 1, _LOOPBACK),
        Instruction(RETURN, 0, 0, 0),
        *program,
    ]


def inverse(program: Iterable[Instruction]) -> list[Instruction]:
    """Accept one octet of what the program rejects, and reject what it accepts."""
    return [
        step._replace(operand=int(step.operand == 0)) if step.code == RETURN else step
        for step in program
    ]


def by_link(ethernet: Sequence[Instruction], other: Sequence[Instruction]) -> list[Instruction]:
    """Join two programs: one for frames with an Ethernet header, one for packets without any."""
    first, second = ETHERNET_LIKE
    return [
        Instruction(LOAD_WORD, 0, 0, _HARDWARE_TYPE),
        Instruction(JUMP_EQUAL, 2, 0, first),
        Instruction(JUMP_EQUAL, 1, 0, second),
        Instruction(JUMP, 0, 0, len(ethernet)),
        *ethernet,
        *other,
    ]


def reject_all() -> list[Instruction]:
    """Reject every packet: how a capture is closed while its ring is read to the end."""
    return [Instruction(RETURN, 0, 0, 0)]


def _link_layer(program: Assembler) -> None:
    """Find the EtherType; leave in X where what it names begins."""
    program.add(LOAD_WORD, _HARDWARE_TYPE)
    program.add(X_NUMBER, _ETHERNET_HEADER)
    program.when_in(ETHERNET_LIKE, "ether type")
    program.add(X_NUMBER, _NETWORK_HEADER)
    program.label("ether type")
    program.add(LOAD_WORD, _ETHER_TYPE)
    program.when_in([_LLC], "llc")
    program.jump("type")
    program.label("llc")  # RFC 1042: DSAP and SSAP 0xAA, control, organisation, EtherType
    program.add(LOAD_HALF_AT_X, 0)
    program.when_in([0xAAAA], "snap")
    program.jump("reject")
    program.label("snap")
    program.add(LOAD_HALF_AT_X, 6)
    program.add(STORE_MEMORY, 0)
    program.add(LOAD_NUMBER, 8)
    _advance(program)
    program.label("type")
    for depth in range(TAGS):
        program.when_in([_IPV4], "ipv4")
        program.when_in([_IPV6], "ipv6")
        program.when_in(_VLAN, f"tag {depth}")
        program.jump("reject")
        program.label(f"tag {depth}")
        program.add(LOAD_HALF_AT_X, 2)
        program.add(STORE_MEMORY, 0)
        program.add(LOAD_NUMBER, 4)
        _advance(program)
    program.when_in([_IPV4], "ipv4")
    program.when_in([_IPV6], "ipv6")
    program.when_in(_VLAN, "accept")
    program.jump("reject")


def _ipv4(program: Assembler) -> None:
    """RFC 791: protocol in octet 9, fragment offset in the low 13 bits at 6, length at 0."""
    program.label("ipv4")
    program.add(LOAD_BYTE_AT_X, 9)
    program.when_in([_UDP, _TCP], "ipv4 ports")
    program.jump("reject")
    program.label("ipv4 ports")
    program.add(LOAD_HALF_AT_X, 6)
    program.when_any_bit(0x1FFF, "accept")
    program.add(LOAD_BYTE_AT_X, 0)
    program.add(AND, 0x0F)
    program.add(SHIFT_LEFT, 2)
    program.add(ADD_X)
    program.add(X_FROM_A)
    program.jump("ports")


def _ipv6(program: Assembler) -> None:
    """RFC 8200: walk the extension headers, unrolled because classic BPF cannot jump back."""
    program.label("ipv6")
    program.add(LOAD_BYTE_AT_X, 6)
    program.add(STORE_MEMORY, 0)
    program.add(LOAD_NUMBER, 40)
    _advance(program)
    for depth in range(EXTENSION_HEADERS):
        program.when_in([_UDP, _TCP], "ports")
        program.when_in(_OPTION_HEADERS, f"options {depth}")
        program.when_in([_FRAGMENT], f"fragment {depth}")
        program.when_in([_AUTHENTICATION], f"authentication {depth}")
        program.jump("reject")

        program.label(f"fragment {depth}")
        program.add(LOAD_HALF_AT_X, 2)
        program.when_any_bit(0xFFF8, "accept")
        _keep_next_header(program)
        program.add(LOAD_NUMBER, 8)
        program.jump(f"next {depth}")

        program.label(f"authentication {depth}")  # RFC 4302: in units of 4, less two
        _keep_next_header(program)
        program.add(LOAD_BYTE_AT_X, 1)
        program.add(ADD, 2)
        program.add(SHIFT_LEFT, 2)
        program.jump(f"next {depth}")

        program.label(f"options {depth}")
        _keep_next_header(program)
        program.add(LOAD_BYTE_AT_X, 1)
        program.add(ADD, 1)
        program.add(SHIFT_LEFT, 3)

        program.label(f"next {depth}")
        _advance(program)
    program.when_in([_UDP, _TCP], "ports")
    program.when_in([*_OPTION_HEADERS, _FRAGMENT, _AUTHENTICATION], "accept")
    program.jump("reject")


def _keep_next_header(program: Assembler) -> None:
    program.add(LOAD_BYTE_AT_X, 0)
    program.add(STORE_MEMORY, 0)


def _advance(program: Assembler) -> None:
    """Move X on by A octets, and load the type of the header there, which was kept in memory."""
    program.add(ADD_X)
    program.add(X_FROM_A)
    program.add(LOAD_MEMORY, 0)
