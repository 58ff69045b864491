"""Steps with named places to jump to in, a classic BPF program out.

Instructions: linux/filter.h and linux/bpf_common.h, described in the kernel's
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

LOAD_WORD, LOAD_HALF_AT_X, LOAD_BYTE_AT_X = 0x20, 0x48, 0x50
LOAD_NUMBER, LOAD_MEMORY, STORE_MEMORY = 0x00, 0x60, 0x02
X_NUMBER, X_FROM_A = 0x01, 0x07
ADD, ADD_X, AND, SHIFT_LEFT = 0x04, 0x0C, 0x54, 0x64
JUMP, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x05, 0x15, 0x45, 0x06


class Instruction(NamedTuple):
    """One `struct sock_filter`: operation, jump if true, jump if false, operand."""

    code: int
    true: int
    false: int
    operand: int


class Assembler:
    """Instructions with named places to jump forward to.

    A conditional jump reaches 255 instructions, an unconditional one any; so a condition here is
    always a pair: skip one instruction, or take it and jump.
    """

    def __init__(self) -> None:
        self._instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def add(self, code: int, operand: int = 0) -> None:
        """Add a step that is no jump."""
        self._instructions.append(Instruction(code, 0, 0, operand))

    def label(self, name: str) -> None:
        """Name the place of the next step."""
        self._labels[name] = len(self._instructions)

    def jump(self, label: str) -> None:
        """Go on at `label`, which lies ahead."""
        self._jumps.append((len(self._instructions), label))
        self.add(JUMP)

    def when_in(self, numbers: Iterable[int], label: str) -> None:
        """Go on at `label` when A is one of the numbers."""
        for number in numbers:
            self._instructions.append(Instruction(JUMP_EQUAL, 0, 1, number))
            self.jump(label)

    def when_any_bit(self, mask: int, label: str) -> None:
        """Go on at `label` when A and `mask` have a bit in common."""
        self._instructions.append(Instruction(JUMP_ANY_BIT, 0, 1, mask))
        self.jump(label)

    def instructions(self) -> list[Instruction]:
        """Return the program, with every jump resolved."""
        program = list(self._instructions)
        for place, label in self._jumps:
            distance = self._labels[label] - place - 1
            program[place] = program[place]._replace(operand=distance)
        return program


def machine_code(program: Iterable[Instruction]) -> bytes:
    """Return the program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
