"""A pcap-filter expression in, libpcap's classic BPF program for a packet socket out."""

from __future__ import annotations

import ctypes
import ctypes.util

from dnsqmon.core.errors import ConfigError
from dnsqmon.sources.bpf import MAX_INSTRUCTIONS, by_link, reject_all
from dnsqmon.sources.bpf_assembler import Instruction

_DLT_ETHERNET, _DLT_RAW = 1, 12
_NETMASK_UNKNOWN = 0xFFFFFFFF
_OPTIMIZE = 1


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

    VLAN tags that the kernel took out of the frame are not seen. On links without Ethernet headers
    an expression about such headers accepts nothing. ConfigError if libpcap is missing or refuses
    the expression.
    """
    library = ctypes.util.find_library("pcap")
    if library is None:
        raise ConfigError(
            f"--filter {expression!r} needs libpcap, which is not installed: install the package "
            "libpcap0.8 (Debian, Ubuntu) or libpcap (others), or leave --filter out"
        )
    pcap = _declared(ctypes.CDLL(library))
    ethernet = _compile(pcap, _DLT_ETHERNET, expression, snap_length)
    try:
        other = _compile(pcap, _DLT_RAW, expression, snap_length)
    except ConfigError:
        other = reject_all()
    program = by_link(ethernet, other)
    if len(program) > MAX_INSTRUCTIONS:
        raise ConfigError(
            f"--filter {expression!r}: too long for the kernel, shorten the expression"
        )
    return program


def _compile(
    pcap: ctypes.CDLL, link_type: int, expression: str, snap_length: int
) -> list[Instruction]:
    handle = pcap.pcap_open_dead(link_type, snap_length)
    program = _Program()
    try:
        text = expression.encode()
        if pcap.pcap_compile(handle, ctypes.byref(program), text, _OPTIMIZE, _NETMASK_UNKNOWN):
            reason = pcap.pcap_geterr(handle).decode(errors="replace")
            raise ConfigError(f"--filter {expression!r}: {reason}")
        steps = program.bf_insns[: program.bf_len]
        instructions = [Instruction(step.code, step.jt, step.jf, step.k) for step in steps]
        pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    return instructions


def _declared(pcap: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of libpcap that are called, as in pcap/pcap.h."""
    pcap.pcap_open_dead.restype = ctypes.c_void_p
    pcap.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
    pcap.pcap_compile.argtypes = (
        ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32,
    )  # fmt: skip
    pcap.pcap_geterr.restype = ctypes.c_char_p
    pcap.pcap_geterr.argtypes = (ctypes.c_void_p,)
    pcap.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
    pcap.pcap_close.argtypes = (ctypes.c_void_p,)
    return pcap
