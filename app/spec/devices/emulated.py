"""A CPU that the worker imitates instruction by instruction."""

from typing import ClassVar, Literal

from app.spec.devices.base import AnyDevice, Provenance
from app.spec.targets.base import ToolchainName

EmulatedCpu = Literal["cortex-a53", "cortex-a76", "x86-avx2"]

TITLES: dict[EmulatedCpu, str] = {
    "cortex-a53": "Cortex-A53",
    "cortex-a76": "Cortex-A76",
    "x86-avx2": "x86 without VNNI",
}


class EmulatedDevice(AnyDevice):
    """A CPU under QEMU, which runs the artifact itself on the runtime's own build for it.

    `cortex-a53` (Raspberry Pi 3: no dot products of bytes), `cortex-a76` (Raspberry Pi 5: dot products and half
    precision) and `x86-avx2` (Haswell: AVX2, no VNNI). It tells what a CPU computes and what that costs in
    instructions; how long it takes, no emulator knows.
    """

    provenance: ClassVar[Provenance] = "emulated"
    toolchain: ClassVar[ToolchainName | None] = "emulator"

    type: Literal["emulated"] = "emulated"
    cpu: EmulatedCpu

    @property
    def label(self) -> str:
        return f"emulated/{self.cpu}"

    @property
    def title(self) -> str:
        return f"{TITLES[self.cpu]}, emulated"
