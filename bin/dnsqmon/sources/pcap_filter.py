"""A pcap-filter expression in, libpcap's classic BPF program for a cooked packet socket out."""

from __future__ import annotations

import ctypes
import ctypes.util

from dnsqmon.errors import ConfigError
from dnsqmon.sources.bpf import (
    ETHER_TYPE,
    HARDWARE_TYPE,
    MAX_INSTRUCTIONS,
    PACKET_TYPE,
    Instruction,
)

#: LINKTYPE_LINUX_SLL, a header of 16 octets, and what the kernel has in place of its fields.
_COOKED, _COOKED_LENGTH = 113, 16
_COOKED_FIELDS = {0: PACKET_TYPE, 2: HARDWARE_TYPE, 14: ETHER_TYPE}
_NETMASK_UNKNOWN = 0xFFFFFFFF
_OPTIMIZE = 1

_CLASS, _MODE = 0x07, 0xE0
_LOADS = (0x00, 0x01)  # BPF_LD, BPF_LDX
_ABSOLUTE, _FROM_PACKET = 0x20, (0x20, 0x40, 0xA0)  # BPF_ABS; BPF_ABS, BPF_IND, BPF_MSH


class _Instruction(ctypes.Structure):
    """`struct bpf_insn` of pcap/bpf.h."""

    _fields_ = (
        ("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )  # fmt: skip


class _Program(ctypes.Structure):
    """`struct bpf_program` of pcap/bpf.h."""

    _fields_ = (("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(_Instruction)))


def compile_filter(expression: str, snap_length: int) -> list[Instruction]:
    """Compile `expression` (see pcap-filter(7)); what it accepts is cut to `snap_length` octets.

    Addresses of the link layer are not seen by a cooked socket, nor are VLAN tags that the kernel
    took out of the frame. ConfigError if libpcap is missing or refuses the expression.
    """
    library = ctypes.util.find_library("pcap")
    if library is None:
        message = (
            f"--filter {expression!r} needs libpcap, which is not installed: install the package "
            "libpcap0.8 (Debian, Ubuntu) or libpcap (others), or leave --filter out"
        )
        raise ConfigError(message)
    pcap = ctypes.CDLL(library)
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
    pcap.pcap_compile.argtypes = (
        ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32,
    )  # fmt: skip
    pcap.pcap_geterr.restype = ctypes.c_char_p
    pcap.pcap_geterr.argtypes = (ctypes.c_void_p,)
    pcap.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
    pcap.pcap_close.argtypes = (ctypes.c_void_p,)

    handle = pcap.pcap_open_dead(_COOKED, snap_length)
    program = _Program()
    text = expression.encode()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), text, _OPTIMIZE, _NETMASK_UNKNOWN):
            reason = pcap.pcap_geterr(handle).decode(errors="replace")
            message = f"--filter {expression!r}: {reason}"
            raise ConfigError(message)
        instructions = [_for_socket(step) for step in program.bf_insns[: program.bf_len]]
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    if len(instructions) > MAX_INSTRUCTIONS:
        message = f"--filter {expression!r}: too long for the kernel, shorten the expression"
        raise ConfigError(message)
    return instructions


def _for_socket(step: _Instruction) -> Instruction:
    """Take the cooked header, which exists only in libpcap's mind, out of the offsets.

    The expression was compiled as for a file; the socket's filter sees the packet from its network
    header on, and the EtherType in the ancillary data.
    """
    operand, mode = step.k, step.code & _MODE
    if step.code & _CLASS in _LOADS and mode in _FROM_PACKET:
        if operand >= _COOKED_LENGTH:
            operand -= _COOKED_LENGTH
        elif mode == _ABSOLUTE and operand in _COOKED_FIELDS:
            operand = _COOKED_FIELDS[operand]
        else:
            message = "--filter: addresses of the link layer cannot be tested, leave them out"
            raise ConfigError(message)
    return Instruction(step.code, step.jt, step.jf, operand)
