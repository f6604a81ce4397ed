"""What all kinds of targets say of themselves."""

from typing import ClassVar, Literal

from app.spec.base import Frozen

ToolchainName = Literal["openvino", "executorch", "litert", "coreml", "keras"]
"""Converters and runtimes that live in environments of their own, each pinned by `toolchains/<name>.txt`."""


class AnyTarget(Frozen):
    """What all kinds of targets say of themselves."""

    toolchain: ClassVar[ToolchainName | None] = None
    """What converts and runs its artifacts; None: the worker itself."""
    needs_program: ClassVar[bool] = False
    """Whether it starts from the PyTorch program, so that a model uploaded as ONNX cannot be delivered for it."""

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
    def timed(self) -> bool:
        """Whether some worker can measure its speed."""
        return True

    def supports(self, step: str) -> bool:
        """Whether it can deliver what a step of this type makes, or something that a step demands."""
        return step not in self.lacks
