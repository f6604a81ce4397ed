"""What all kinds of devices say of themselves."""

from typing import ClassVar, Literal

from app.spec.base import Tagged
from app.spec.targets.base import ToolchainName

Provenance = Literal["measured", "emulated", "estimated"]
"""Where a figure comes from: taken on the device, on an imitation of it, or computed."""


class AnyDevice(Tagged):
    """What all kinds of devices say of themselves."""

    provenance: ClassVar[Provenance]
    """Of every figure that such a device yields."""
    toolchain: ClassVar[ToolchainName | None] = None
    """What a worker must have installed to try an artifact there; None: nothing."""

    @property
    def label(self) -> str:
        """For people, and unique among a job's devices: "emulated/cortex-a53"."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Heads its rows of the device matrix: "Cortex-A53, emulated"."""
        raise NotImplementedError
