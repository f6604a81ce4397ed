"""A small assembler for classic BPF, as far as seccomp filters need it.

Source: linux/filter.h, linux/seccomp.h, and Documentation/userspace-api/seccomp_filter.rst.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final


class Action(IntEnum):
    """What a filter returns to the kernel."""

    ALLOW = 0x7FFF0000
    KILL_PROCESS = 0x80000000
    ERRNO = 0x00050000


class Opcode(IntEnum):
    """BPF_CLASS | BPF_SIZE | BPF_MODE or BPF_OP | BPF_SRC."""

    LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
    JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
    JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
    JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
    RETURN = 0x06  # BPF_RET | BPF_K
    AND = 0x54  # BPF_ALU | BPF_AND | BPF_K


# struct seccomp_data { int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]; }
NUMBER: Final = 0
ARCHITECTURE: Final = 4
MAX_JUMP: Final = 255
MAX_INSTRUCTIONS: Final = 4096


def low_half(argument: int) -> int:
    """Offset of the lower 32 bits of a system call's argument, little endian."""
    return 16 + 8 * argument


def high_half(argument: int) -> int:
    """Offset of the upper 32 bits of a system call's argument, little endian."""
    return low_half(argument) + 4


def errno_action(number: int) -> int:
    """The system call fails with `errno` = number."""
    return Action.ERRNO | number


class BpfProgram:
    """Instructions in order. Conditions are blocks: `with program.when_equal(k): ...` skips the block otherwise."""

    def __init__(self) -> None:
        """A program without instructions."""
        self._code: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        """Accumulator = the 32-bit word of seccomp_data at `offset`."""
        self._append(Opcode.LOAD_WORD, 0, 0, offset)

    def keep_bits(self, mask: int) -> None:
        """Accumulator &= mask."""
        self._append(Opcode.AND, 0, 0, mask)

    def give(self, action: int) -> None:
        """End the filter with `action`."""
        self._append(Opcode.RETURN, 0, 0, action)

    @contextmanager
    def when_equal(self, value: int) -> Iterator[None]:
        """The block runs if the accumulator is `value`."""
        with self._block(Opcode.JUMP_EQUAL, value, negated=False):
            yield

    @contextmanager
    def unless_equal(self, value: int) -> Iterator[None]:
        """The block runs if the accumulator is not `value`."""
        with self._block(Opcode.JUMP_EQUAL, value, negated=True):
            yield

    @contextmanager
    def when_at_least(self, value: int) -> Iterator[None]:
        """The block runs if the accumulator is `value` or more, unsigned."""
        with self._block(Opcode.JUMP_AT_LEAST, value, negated=False):
            yield

    @contextmanager
    def unless_at_least(self, value: int) -> Iterator[None]:
        """The block runs if the accumulator is less than `value`, unsigned."""
        with self._block(Opcode.JUMP_AT_LEAST, value, negated=True):
            yield

    @contextmanager
    def when_any_bit(self, mask: int) -> Iterator[None]:
        """The block runs if the accumulator has a bit of `mask`."""
        with self._block(Opcode.JUMP_ANY_BIT, mask, negated=False):
            yield

    @contextmanager
    def _block(self, opcode: Opcode, value: int, *, negated: bool) -> Iterator[None]:
        at = len(self._code)
        self._append(opcode, 0, 0, value)
        yield
        skip = len(self._code) - at - 1
        if skip > MAX_JUMP:
            raise ValueError(f"a block of {skip} instructions is too long to jump over")
        self._code[at] = (opcode, skip, 0, value) if negated else (opcode, 0, skip, value)

    def _append(self, opcode: Opcode, if_true: int, if_false: int, value: int) -> None:
        self._code.append((opcode, if_true, if_false, value))

    def __len__(self) -> int:
        """The number of instructions."""
        return len(self._code)

    def assemble(self) -> bytes:
        """The instructions as an array of `struct sock_filter`."""
        if len(self._code) > MAX_INSTRUCTIONS:
            raise ValueError("the kernel takes 4096 instructions at most")
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self._code)
