"""How well a job's process is confined on this machine, as a process that tried to get out found it."""

from pydantic import Field

from app.spec.base import Frozen


class Layers(Frozen):
    """The layers that the kernel accepted. `landlock` is its ABI, 0 where it is missing."""

    rlimits: bool
    no_new_privs: bool
    landlock: int
    seccomp: bool
    missing: tuple[str, ...] = Field((), description="What could not be applied, and why.")

    @property
    def summary(self) -> dict[str, bool | str]:
        """One entry per layer, for people."""
        return {
            "rlimits": self.rlimits,
            "no_new_privs": self.no_new_privs,
            "landlock": f"abi {self.landlock}" if self.landlock else False,
            "seccomp": self.seccomp,
        }

    @property
    def all_applied(self) -> bool:
        """Whether every layer was accepted and none lacks a part."""
        return self.rlimits and self.no_new_privs and self.landlock > 0 and self.seccomp and not self.missing


class JailLevel(Layers):
    """The layers, and the attempts to get out that succeeded in spite of them (none, where all is well)."""

    escapes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every layer is there and every attempt to get out failed."""
        return self.all_applied and not self.escapes

    @property
    def summary(self) -> dict[str, bool | str]:
        """For the log, `/readyz` and the job. `verified`: attempts to get out were made, and all failed."""
        return {**super().summary, "verified": not self.escapes}
