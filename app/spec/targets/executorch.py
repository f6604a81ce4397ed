"""An ExecuTorch program."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.targets.base import AnyTarget, ToolchainName


class ExecuTorchTarget(AnyTarget):
    """An ExecuTorch program (`.pte`) with the XNNPACK delegate, for phones and embedded CPUs.

    Float models, `quantize.static` and `quantize.aware` (integer kernels with the plan's own scales) and
    `quantize.dynamic` (matrix products). What XNNPACK does not take runs on ExecuTorch's portable kernels. The runtime
    plans memory ahead: the file takes up to `batch` rows in one call.
    """

    toolchain: ClassVar[ToolchainName | None] = "executorch"
    needs_program: ClassVar[bool] = True

    format: Literal["executorch"] = "executorch"
    batch: int = Field(32, ge=1, le=1024, description="Rows that the file takes in one call at most.")

    @property
    def label(self) -> str:
        return "executorch" if self.batch == 32 else f"executorch/batch-{self.batch}"

    @property
    def title(self) -> str:
        return "ExecuTorch" if self.batch == 32 else f"ExecuTorch, batches up to {self.batch}"

    @property
    def lacks(self) -> frozenset[str]:
        """It has no kernels that unpack weights for float products, so that the file would not shrink."""
        return frozenset({"quantize.weights", "share_weights"})
