"""OpenVINO's intermediate representation."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.targets.base import AnyTarget, ToolchainName


class OpenVinoTarget(AnyTarget):
    """OpenVINO's intermediate representation (an .xml and a .bin file), for CPUs and Intel's other processors.

    Quantized steps arrive as they do for `onnx/x86`. `precision` is that of what is left in floating point: `fp16`
    halves the file; CPUs compute it in float32 all the same, and so it is measured. `nncf`, in a job without a step
    that quantizes, leaves it to OpenVINO's own compressor: `weights` in 8 bits, or `full`, activations too, on the
    calibration data.
    """

    toolchain: ClassVar[ToolchainName | None] = "openvino"

    format: Literal["openvino"] = "openvino"
    precision: Literal["fp32", "fp16"] = "fp32"
    nncf: Literal["weights", "full"] | None = Field(
        None,
        description="Quantize with OpenVINO's compressor: stored weights, or 'full', on calibration data.",
    )

    @property
    def label(self) -> str:
        return f"openvino/{self.precision}" + (f"-nncf-{self.nncf}" if self.nncf else "")

    @property
    def title(self) -> str:
        return f"OpenVINO, {self.precision}" + (f", quantized by NNCF ({self.nncf})" if self.nncf else "")

    @property
    def lacks(self) -> frozenset[str]:
        """It unpacks weights of a few bits wrongly: what it computed for int4 was right for one digit in ten.

        What is quantized by NNCF cannot be quantized by a step as well.
        """
        if self.nncf:
            return frozenset(
                {
                    "quantize.static",
                    "quantize.aware",
                    "quantize.dynamic",
                    "quantize.weights",
                    "share_weights",
                }
            )
        return frozenset({"int4 weights", "int3 weights", "int2 weights"})

    @property
    def needs_calibration(self) -> bool:
        return self.nncf == "full"
