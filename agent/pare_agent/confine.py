"""Limits on the process that loads a model: it is the one part of the agent that reads what somebody uploaded.

Resource limits hold everywhere. The rest is Linux's, and taken as far as the kernel has it: no new privileges, death
with the parent, no network (a namespace of its own), and Landlock, so that only Python, system libraries and the work
folder can be opened; the agent's credential lies in none of them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Landlock's system calls, the same numbers on every architecture."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
EVERYTHING = (1 << 13) - 1
"""Rights of Landlock's first version; they cover reading and writing, whatever was added since."""
READ = READ_FILE | READ_DIR
WORK = EVERYTHING & ~EXECUTE
ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc", "/sys/devices", "/dev/urandom")
SPARE_BYTES = 2 << 30
"""Address space beyond the memory: stacks and allocators reserve more than they use."""

_libc = ctypes.CDLL(None, use_errno=True)


def confine(work: Path, *, memory_bytes: int, cpu_s: float, file_bytes: int) -> list[str]:
    """Confine this process to the folder `work` and to these limits; returns what the kernel does not have.

    Call it before anything of the task is read, in a process with one thread. Raises OSError where a resource limit
    cannot be set.
    """
    os.umask(0o077)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes + SPARE_BYTES),
        (resource.RLIMIT_CPU, int(cpu_s) + 1),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _, most = resource.getrlimit(limit)
        held = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (held, held))
    missing = []
    for layer, apply in (
        ("privileges", _keep_privileges_down),
        ("network", _leave_the_network),
        ("files", lambda: _landlock(work)),
    ):
        try:
            apply()
        except (OSError, AttributeError):
            missing.append(layer)
    return missing


def _keep_privileges_down() -> None:
    parent = os.getppid()
    _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0))
    _checked(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)  # it died in between


def _leave_the_network() -> None:
    _checked(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))


def _landlock(work: Path) -> None:
    attributes = ctypes.create_string_buffer(struct.pack("=Q", EVERYTHING), 8)
    ruleset = _syscall(CREATE_RULESET, attributes, 8, 0)
    try:
        readable = {*SYSTEM, sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry), *_linked()}
        for path in sorted(readable):
            _grant(ruleset, path, READ)
        _grant(ruleset, "/dev/null", READ | WRITE_FILE)
        _grant(ruleset, str(work), WORK)
        _syscall(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _linked() -> list[str]:
    """In a checkout of the service's repository, a module of this package is a link to one of the workers'."""
    ours = Path(__file__).resolve().parent
    return [str(module.resolve()) for module in ours.glob("*.py") if module.is_symlink()]


def _grant(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no grant
    try:
        rule = struct.pack("=Qi", access if Path(path).is_dir() else access & ON_A_FILE, place)
        _syscall(ADD_RULE, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(place)


def _syscall(number: int, *arguments: object) -> int:
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *passed)))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
