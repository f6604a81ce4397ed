"""Tied to the parent's life, and without the powers of root."""

import contextlib
import ctypes
import os
import signal
import struct
from pathlib import Path

from worker.runtime.jail import libc
from worker.runtime.jail.syscalls import ARCHITECTURES

LINUX_CAPABILITY_VERSION_3 = 0x20080522


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; exit if that has happened already."""
    if libc.LINUX:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(os.EX_UNAVAILABLE)


def no_new_privs() -> None:
    """No program run from here gains rights; Landlock and seccomp demand it of ordinary users. Raises OSError."""
    if not libc.LINUX:
        raise OSError("no_new_privs is part of Linux")
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up what root may do beyond its own files. Raises OSError. Without capabilities it changes nothing."""
    arch = ARCHITECTURES.get(libc.MACHINE)
    if not libc.LINUX or arch is None:
        return
    header = struct.pack("=Ii", LINUX_CAPABILITY_VERSION_3, 0)
    none = bytes(24)  # struct __user_cap_data_struct[2]: effective, permitted, inheritable
    libc.syscall(arch.capset, ctypes.create_string_buffer(header, 8), ctypes.create_string_buffer(none, 24))


def first_to_go() -> None:
    """Ask the kernel's out-of-memory killer to take this process before its parent; some containers forbid to ask."""
    if libc.LINUX:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
