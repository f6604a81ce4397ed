"""The CPUs that can be emulated, and how they look to a program that asks."""

from dataclasses import dataclass
from typing import Literal

Machine = Literal["amd64", "arm64"]
"""As Debian names them."""


@dataclass(frozen=True)
class Cpu:
    """One of them, as QEMU's user mode knows it."""

    machine: Machine
    model: str
    """QEMU's name, less what it would warn that it cannot emulate and user programs cannot use."""
    cpuinfo: str
    """What /proc/cpuinfo says: ONNX Runtime and XNNPACK read it, and the former crashes on ARM without it."""

    @property
    def qemu(self) -> str:
        """The program that emulates it."""
        return {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}[self.machine]


def _arm(part: str, features: str) -> str:
    return (
        f"processor\t: 0\nBogoMIPS\t: 38.40\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 4\n\n"
    )


HASWELL = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 60\nmodel name\t: Intel Core (Haswell)\n"
    "stepping\t: 1\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\nflags\t\t: fpu "
    "cx8 cmov mmx fxsr sse sse2 pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes avx f16c lahf_lm abm bmi1 "
    "avx2 bmi2 erms\n\n"
)

CPUS = {
    "cortex-a53": Cpu("arm64", "cortex-a53", _arm("0xd03", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid")),
    "cortex-a76": Cpu(
        "arm64",
        "cortex-a76",
        _arm(
            "0xd0b",
            "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        ),
    ),
    "x86-avx2": Cpu("amd64", "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid", HASWELL),
}
"""By the name that `evaluate.devices` uses. The first and the last lack dot products of bytes: SDOT, VPDPBUSD."""
