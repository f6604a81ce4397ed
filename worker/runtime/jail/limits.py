"""Resource limits that the kernel itself keeps."""

import math
import os
import resource
from dataclasses import dataclass
from typing import Final

from worker.runtime.jail import libc

OPEN_FILES: Final = 1024
MIB: Final = 1 << 20
GIB: Final = 1 << 30
DATA_MARGIN_BYTES: Final = 512 * MIB
"""Imports alone hold 230 MiB of private writable mappings, and each thread's stack counts with 8 MiB untouched."""
ADDRESS_MARGIN_BYTES: Final = 16 * GIB
"""Mapped libraries, mapped model files and the 64 MiB that each thread's allocation arena reserves."""


@dataclass(frozen=True)
class Limits:
    """What one job may use: `wall_s` seconds, `memory_bytes` resident, `file_bytes` written to disk."""

    wall_s: float
    memory_bytes: int
    file_bytes: int

    @property
    def cpu_s(self) -> int:
        """CPU seconds: every core for the whole wall time, so that only a job that escapes the watch meets it."""
        return math.ceil(self.wall_s * (os.cpu_count() or 1)) + 30


def confine(limits: Limits, *, cuda: bool) -> None:
    """Set the limits on this process, for good. Raises OSError or ValueError where the system refuses.

    CUDA reserves address space for all memory of all devices, so there only the parent watches memory.
    """
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES)
    _set(resource.RLIMIT_FSIZE, limits.file_bytes)
    _set(resource.RLIMIT_CPU, limits.cpu_s)
    if libc.LINUX and not cuda:  # macOS takes these and ignores them
        _set(resource.RLIMIT_DATA, limits.memory_bytes + DATA_MARGIN_BYTES)
        _set(resource.RLIMIT_AS, limits.memory_bytes + ADDRESS_MARGIN_BYTES)


def _set(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))
