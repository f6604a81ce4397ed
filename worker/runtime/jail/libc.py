"""The few system calls that Python has no function for. The device agent links to this module: see `landlock`."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

LINUX: Final = platform.system() == "Linux"
MACHINE: Final = platform.machine()

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39


def prctl(option: int, value: int) -> int:
    """Set an option of this process. Raises OSError."""
    return _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call with integers, buffers and NULL. Raises OSError."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *passed)), f"system call {number}")


def unshare(flags: int) -> None:
    """Leave namespaces that this process shares with others. Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Where the buffer lies; keep the buffer alive while the kernel may read it."""
    return ctypes.addressof(buffer)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
