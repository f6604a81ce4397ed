"""Which figures this machine can take for a target: what runs, runs on this CPU, whatever the target is for."""

import platform
from dataclasses import dataclass

from app.spec.report import TargetStatus
from app.spec.targets import OnnxProfile, OnnxTarget, Target, TorchEngine, TorchScriptTarget, TritonTarget
from worker.engine.measure.machine import usable_cores

X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
ARM = frozenset({"aarch64", "arm64"})
ARCHITECTURES: dict[OnnxProfile, frozenset[str]] = {"x86": X86, "x86-legacy": X86, "arm": ARM, "tensorrt": frozenset()}
"""Where a profile's speed is real, as `platform.machine()` spells it; TensorRT is no CPU."""
ENGINES: dict[TorchEngine, frozenset[str]] = {"x86": X86, "qnnpack": ARM}
"""The same of LibTorch's kernels."""


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
        match target:
            case OnnxTarget(profile=profile):
                return self.architecture.lower() in ARCHITECTURES[profile]
            case TorchScriptTarget(engine=engine):
                return self.architecture.lower() in ENGINES[engine]
            case TritonTarget():
                return self.represents(target.inner)
        return True


def foreign(target: Target, status: TargetStatus) -> str:
    """What was not measured for a target this machine is not, and where the rest comes from."""
    if status == "converted":
        return f"Nothing was run: {target.label} was converted, and its runtime is not on this worker."
    if status == "planned":
        return (
            f"Latency was not measured: {target.label} is built where it will run. Accuracy and parity are of the "
            "very file that is delivered, run with ONNX Runtime on this CPU."
        )
    runtime = "LibTorch" if isinstance(target, TorchScriptTarget) else "ONNX Runtime"
    return (
        f"Latency was not measured: this machine is not what {target.label} is for. Accuracy, parity and "
        f"placement were measured with {runtime} on this CPU; there, kernels are placed differently."
    )
