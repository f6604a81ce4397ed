"""OpenVINO's intermediate representation."""

from typing import ClassVar, Literal

from app.spec.targets.base import AnyTarget, ToolchainName


class OpenVinoTarget(AnyTarget):
    """OpenVINO's intermediate representation (an .xml and a .bin file), for CPUs and Intel's other processors.

    Quantized steps arrive as they do for `onnx/x86`. `precision` is that of what is left in floating point: `fp16`
    halves the file; CPUs compute it in float32 all the same, and so it is measured.
    """

    toolchain: ClassVar[ToolchainName | None] = "openvino"

    format: Literal["openvino"] = "openvino"
    precision: Literal["fp32", "fp16"] = "fp32"

    @property
    def label(self) -> str:
        return f"openvino/{self.precision}"

    @property
    def title(self) -> str:
        return f"OpenVINO, {self.precision}"

    @property
    def lacks(self) -> frozenset[str]:
        """It unpacks weights of a few bits wrongly: what it computed for int4 was right for one digit in ten."""
        return frozenset({"int4 weights", "int3 weights", "int2 weights"})
