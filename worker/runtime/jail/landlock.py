"""File system and network rules of the Landlock security module.

Source: Documentation/userspace-api/landlock.rst and linux/landlock.h, ABI 1 (Linux 5.13) to 7. The device agent links
to this module and to `libc`: they import nothing but each other and the standard library of Python 3.9.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from . import libc

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
NET_BIND_AND_CONNECT_TCP = 3
SCOPE_ABSTRACT_UNIX_SOCKET_AND_SIGNAL = 3


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


LIST = Access.READ_DIR
READ = Access.READ_FILE | Access.READ_DIR
WORK = (
    READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.REFER
    | Access.TRUNCATE
)
WRITE_DEVICE = Access.READ_FILE | Access.WRITE_FILE
USE_DEVICE = WRITE_DEVICE | Access.IOCTL_DEV
RUN = READ | Access.EXECUTE
ON_A_FILE = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV


@dataclass(frozen=True)
class Grant:
    """`access` to `path` and what lies below it. A path that does not exist grants nothing."""

    path: Path
    access: Access


def abi() -> int:
    """The kernel's Landlock version. Raises OSError where there is none."""
    if not libc.LINUX:
        raise OSError(errno.ENOSYS, "Landlock is part of Linux")
    return libc.syscall(CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)


def confine(grants: Iterable[Grant]) -> int:
    """Leave this thread, and those it starts, only `grants`, and no TCP. The ABI used; raises OSError."""
    version = abi()
    handled = _handled(version)
    ruleset = libc.syscall(CREATE_RULESET, *_attributes(version, handled), 0)
    try:
        for grant in grants:
            _allow(ruleset, grant, handled)
        libc.syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _handled(version: int) -> Access:
    newest_known = {1: Access.MAKE_SYM, 2: Access.REFER, 3: Access.TRUNCATE, 4: Access.TRUNCATE}
    return Access((newest_known.get(version, Access.IOCTL_DEV) << 1) - 1)


def _attributes(version: int, handled: Access) -> tuple[ctypes.Array[ctypes.c_char], int]:
    fields = [int(handled)]
    if version >= 4:
        fields.append(NET_BIND_AND_CONNECT_TCP)
    if version >= 6:
        fields.append(SCOPE_ABSTRACT_UNIX_SOCKET_AND_SIGNAL)
    packed = struct.pack(f"={len(fields)}Q", *fields)
    return ctypes.create_string_buffer(packed, len(packed)), len(packed)


def _allow(ruleset: int, grant: Grant, handled: Access) -> None:
    try:
        fd = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # what its user cannot reach needs no grant
        return
    try:
        access = grant.access & handled
        if not grant.path.is_dir():
            access &= ON_A_FILE
        rule = struct.pack("=Qi", int(access), fd)
        libc.syscall(ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(fd)
