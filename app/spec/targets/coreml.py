"""A Core ML package for Apple's devices."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.quantize import BLOCKS
from app.spec.targets.base import AnyTarget, Processor, ToolchainName


class CoreMlTarget(AnyTarget):
    """A Core ML package (`.mlpackage`, zipped) for iOS 18, macOS 15 and later.

    Core ML runs on macOS alone: on other workers the package is converted and not executed, so that nothing is known
    of its outputs and its speed. Static plans arrive with their own scales, stored weights as 8 or 4 bits with one
    scale for each output, and `share_weights` as palettization with the step's own tables. The file takes `batch` rows
    at a time.
    """

    toolchain: ClassVar[ToolchainName | None] = "coreml"
    needs_program: ClassVar[bool] = True

    format: Literal["coreml"] = "coreml"
    precision: Literal["fp16", "fp32"] = "fp16"
    batch: int = Field(1, ge=1, le=1024, description="Rows that the file takes in one call.")

    @property
    def label(self) -> str:
        return f"coreml/{self.precision}" if self.batch == 1 else f"coreml/{self.precision}-batch-{self.batch}"

    @property
    def title(self) -> str:
        return f"Core ML, {self.precision}" + ("" if self.batch == 1 else f", batches of {self.batch}")

    @property
    def lacks(self) -> frozenset[str]:
        return frozenset({"quantize.dynamic", "int3 weights", "int2 weights", "asymmetric weights", BLOCKS})

    @property
    def processors(self) -> frozenset[Processor]:
        return frozenset({"apple"})

    @property
    def timed(self) -> bool:
        """By a worker on macOS alone."""
        return False
