"""What all kinds of targets say of themselves."""

import itertools
from typing import ClassVar, Literal, Self, get_args, get_origin

from app.spec.base import Tagged

ToolchainName = Literal["openvino", "executorch", "litert", "coreml", "keras", "emulator"]
"""Converters, runtimes and emulators that live in environments of their own, each pinned by `toolchains/<name>.txt`."""
AgentRuntime = Literal["onnxruntime", "litert"]
"""What a device agent can run artifacts with."""
Processor = Literal["x86", "arm", "nvidia", "apple"]
CPUS: frozenset[Processor] = frozenset({"x86", "arm"})


class AnyTarget(Tagged):
    """What all kinds of targets say of themselves."""

    tag: ClassVar[str] = "format"
    toolchain: ClassVar[ToolchainName | None] = None
    """What converts and runs its artifacts; None: the worker itself."""
    needs_program: ClassVar[bool] = False
    """Whether it starts from the PyTorch program, which is made of a model uploaded as ONNX."""
    agent_runtime: ClassVar[AgentRuntime | None] = None
    """What a device agent runs its artifacts with; None: no agent runs them."""
    run_by: ClassVar[str] = "ONNX Runtime"
    """What a worker that is not what it is for runs its artifacts with, if anything."""

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Every choice of what can be chosen from a list, such as its profiles; the rest as by default."""
        listed = {
            name: get_args(field.annotation)
            for name, field in cls.model_fields.items()
            if get_origin(field.annotation) is Literal
        }
        chosen = itertools.product(*listed.values())
        return tuple(cls.model_validate(dict(zip(listed, choice, strict=True))) for choice in chosen)

    @property
    def label(self) -> str:
        """For people, and unique among a job's targets: "onnx/x86"."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Heads its section of a report: "ONNX for x86"."""
        raise NotImplementedError

    @property
    def lacks(self) -> frozenset[str]:
        """Steps, or what a step may demand, that it cannot carry out; refused at submission."""
        return frozenset()

    @property
    def last_opset(self) -> int | None:
        """The newest ONNX opset that it reads; None where that is the runtime's own limit."""
        return None

    @property
    def needs_calibration(self) -> bool:
        """Whether it measures on the job's calibration data by itself."""
        return False

    @property
    def timed(self) -> bool:
        """Whether some worker can measure its speed."""
        return True

    @property
    def processors(self) -> frozenset[Processor]:
        """Where its artifacts can run."""
        return CPUS

    @property
    def made_for(self) -> frozenset[Processor] | None:
        """Where its artifacts are as fast as they are meant to be; None: wherever its own runtime runs them."""
        return None

    @property
    def symmetric(self) -> bool:
        """Whether it quantizes activations symmetrically, whatever range they have."""
        return False

    @property
    def saturates(self) -> bool:
        """Whether sums of its 8-bit products overflow, so that weights are given 7 bits."""
        return False

    def supports(self, step: str) -> bool:
        """Whether it can deliver what a step of this type makes, or something that a step demands."""
        return step not in self.lacks
