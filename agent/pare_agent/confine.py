"""Limits on the process that loads a model: it is the one part of the agent that reads what somebody uploaded.

Resource limits hold everywhere. The rest is Linux's, and taken as far as the kernel has it: no new privileges, death
with the parent, no network (a namespace of its own), and Landlock, so that only Python, system libraries and the work
folder can be opened; the agent's credential lies in none of them.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from pare_agent import landlock, libc
from pare_agent.landlock import READ, WORK, WRITE_DEVICE, Grant

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc", "/sys/devices", "/dev/urandom")
SPARE_BYTES = 2 << 30
"""Address space beyond the memory: stacks and allocators reserve more than they use."""


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
        ("files", lambda: landlock.confine(_grants(work))),
    ):
        try:
            apply()
        except (OSError, AttributeError):
            missing.append(layer)
    return missing


def _keep_privileges_down() -> None:
    parent = os.getppid()
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died in between


def _leave_the_network() -> None:
    libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _grants(work: Path) -> list[Grant]:
    readable = {*SYSTEM, sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry), *_linked()}
    granted = [Grant(Path(path), READ) for path in sorted(readable) if os.path.lexists(path)]
    return [*granted, Grant(Path("/dev/null"), WRITE_DEVICE), Grant(work, WORK)]


def _linked() -> list[str]:
    """In a checkout of the service's repository, a module of this package is a link to one of the workers'."""
    ours = Path(__file__).resolve().parent
    return [str(module.resolve()) for module in ours.glob("*.py") if module.is_symlink()]
