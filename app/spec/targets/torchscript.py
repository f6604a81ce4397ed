"""A TorchScript file for LibTorch."""

from typing import ClassVar, Literal

from pydantic import ConfigDict

from app.spec.targets.base import AnyTarget, Processor

TorchEngine = Literal["x86", "qnnpack"]


class TorchScriptTarget(AnyTarget):
    """A frozen TorchScript file (`.pt`) for LibTorch, with a C++ program that loads and runs it.

    PyTorch has deprecated TorchScript: choose ExecuTorch for anything new. `engine` is whose kernels it is for:
    `x86`, or `qnnpack` on ARM.
    """

    model_config = ConfigDict(json_schema_extra={"deprecated": True})

    needs_program: ClassVar[bool] = True
    run_by: ClassVar[str] = "LibTorch"

    format: Literal["torchscript"] = "torchscript"
    engine: TorchEngine = "x86"

    @property
    def label(self) -> str:
        return f"torchscript/{self.engine}"

    @property
    def title(self) -> str:
        return f"TorchScript for {self.engine}"

    @property
    def lacks(self) -> frozenset[str]:
        return frozenset({"quantize.weights", "share_weights"})

    @property
    def processors(self) -> frozenset[Processor]:
        return frozenset({"x86"}) if self.engine == "x86" else frozenset({"arm"})

    @property
    def made_for(self) -> frozenset[Processor]:
        return self.processors
