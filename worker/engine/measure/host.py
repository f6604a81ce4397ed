"""Which figures this machine can take for a target: what runs is ONNX Runtime on this CPU, whatever the profile."""

import platform
from dataclasses import dataclass

from app.spec.report import Status
from app.spec.targets import OnnxProfile, OnnxTarget, Target
from worker.engine.measure.machine import usable_cores

X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
ARM = frozenset({"aarch64", "arm64"})
ARCHITECTURES: dict[OnnxProfile, frozenset[str]] = {"x86": X86, "x86-legacy": X86, "arm": ARM, "tensorrt": frozenset()}
"""Where a profile's speed is real, as `platform.machine()` spells it; TensorRT is no CPU."""


@dataclass(frozen=True)
class Host:
    """The machine that measures."""

    architecture: str
    cores: int

    @classmethod
    def here(cls) -> "Host":
        """This machine, and the cores this process may use."""
        return cls(platform.machine(), usable_cores())

    def represents(self, target: Target) -> bool:
        """Whether speed here is speed on the target."""
        return not isinstance(target, OnnxTarget) or self.architecture.lower() in ARCHITECTURES[target.profile]


def foreign(target: Target, status: Status) -> str:
    """What was not measured for a target this machine is not, and where the rest comes from."""
    if status == "planned, not built":
        return (
            f"Latency was not measured: {target.label} is built where it will run. Accuracy and parity are of the "
            "very file that is delivered, run with ONNX Runtime on this CPU."
        )
    return (
        f"Latency was not measured: this machine is not what {target.label} is for. Accuracy, parity and "
        "placement were measured with ONNX Runtime on this CPU; there, kernels are placed differently."
    )
