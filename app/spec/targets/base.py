"""What all kinds of targets say of themselves."""

import itertools
from typing import ClassVar, Literal, Self, get_args, get_origin

from app.spec.base import Frozen

ToolchainName = Literal["openvino", "executorch", "litert", "coreml", "keras", "emulator"]
"""Converters, runtimes and emulators that live in environments of their own, each pinned by `toolchains/<name>.txt`."""


class AnyTarget(Frozen):
    """What all kinds of targets say of themselves."""

    toolchain: ClassVar[ToolchainName | None] = None
    """What converts and runs its artifacts; None: the worker itself."""
    needs_program: ClassVar[bool] = False
    """Whether it starts from the PyTorch program, so that a model uploaded as ONNX cannot be delivered for it."""

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

    def supports(self, step: str) -> bool:
        """Whether it can deliver what a step of this type makes, or something that a step demands."""
        return step not in self.lacks
