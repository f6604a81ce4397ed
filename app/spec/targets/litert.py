"""A TensorFlow Lite file for LiteRT."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.quantize import BLOCKS
from app.spec.targets.base import AgentRuntime, AnyTarget, ToolchainName


class LiteRtTarget(AnyTarget):
    """A TensorFlow Lite file (`.tflite`) for LiteRT, on phones, single-board computers and microcontrollers.

    The format fixes every size: the file takes `batch` rows at a time. More are run in several calls. After
    `quantize.static` and `quantize.aware` everything in it is int8, inputs and outputs included; after
    `quantize.dynamic` weights are int8, and kernels round activations as they come.
    """

    toolchain: ClassVar[ToolchainName | None] = "litert"
    agent_runtime: ClassVar[AgentRuntime | None] = "litert"
    needs_program: ClassVar[bool] = True

    format: Literal["litert"] = "litert"
    batch: int = Field(1, ge=1, le=1024, description="Rows that the file takes in one call.")

    @property
    def label(self) -> str:
        return "litert" if self.batch == 1 else f"litert/batch-{self.batch}"

    @property
    def title(self) -> str:
        return "LiteRT" if self.batch == 1 else f"LiteRT, batches of {self.batch}"

    @property
    def lacks(self) -> frozenset[str]:
        """Its codes are symmetric and of 8 or 4 bits, with one scale for each output."""
        return frozenset({"share_weights", "int3 weights", "int2 weights", "asymmetric weights", BLOCKS})
