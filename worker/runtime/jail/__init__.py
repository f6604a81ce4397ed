"""Confines the calling process for good: rlimits, no_new_privs, Landlock, seccomp. Call it in a fresh fork.

Threats covered: an uploaded model that takes over the process that loads it. It then finds no other job's files, no
credentials, no network, no way to start a program or to touch another process, and bounded memory, disk and time.
"""

from collections.abc import Callable
from pathlib import Path

from worker.runtime.jail import grants, landlock, limits, privileges, seccomp
from worker.runtime.jail.level import Layers

__all__ = ["Layers", "confine"]


def confine(directory: Path, allowed: limits.Limits, *, cuda: bool, environment: Path | None = None) -> Layers:
    """Apply every layer that this system has; what it lacks stands in the answer, with its reason.

    `environment`: a toolchain's, whose programs the process may run; there alone it may also fork.
    """
    missing: list[str] = []

    def tried(name: str, apply: Callable[[], object]) -> object:
        try:
            return apply() or True
        except (OSError, ValueError) as error:
            missing.append(f"{name}: {error}")
            return False

    granted = grants.grants(directory, cuda=cuda, environment=environment)
    rlimits = tried("rlimits", lambda: limits.confine(allowed, cuda=cuda))
    no_new_privs = tried("no_new_privs", privileges.no_new_privs)
    tried("capabilities", privileges.drop_capabilities)
    version = tried("landlock", lambda: landlock.confine(granted))
    filtered = tried("seccomp", lambda: seccomp.confine(cuda=cuda, programs=environment is not None))
    return Layers(
        rlimits=bool(rlimits),
        no_new_privs=bool(no_new_privs),
        landlock=int(version) if isinstance(version, int) else 0,
        seccomp=bool(filtered),
        missing=tuple(missing),
    )
