"""Which figures this machine can take for a target: what runs, runs on this CPU, whatever the target is for."""

import platform
from dataclasses import dataclass

from app.spec.report import TargetStatus
from app.spec.targets import Target
from app.spec.targets.base import Processor
from worker.engine.measure.machine import usable_cores

PROCESSORS: dict[str, Processor] = {
    **dict.fromkeys(("x86_64", "amd64", "i386", "i686"), "x86"),
    **dict.fromkeys(("aarch64", "arm64"), "arm"),
}
"""By the name that `platform.machine()` has for them."""


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
        return target.made_for is None or PROCESSORS.get(self.architecture.lower()) in target.made_for


def foreign(target: Target, status: TargetStatus) -> str:
    """What was not measured for a target this machine is not, and where the rest comes from."""
    if status == "converted":
        return f"Nothing was run: {target.label} was converted, and its runtime is not on this worker."
    if status == "planned":
        return (
            f"Latency was not measured: {target.label} is built where it will run. Accuracy and parity are of the "
            "very file that is delivered, run with ONNX Runtime on this CPU."
        )
    return (
        f"Latency was not measured: this machine is not what {target.label} is for. Accuracy, parity and "
        f"placement were measured with {target.run_by} on this CPU; there, kernels are placed differently."
    )
