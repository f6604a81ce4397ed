"""Where the result will run. The quantization profile belongs here: one plan suits every place in its own way."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.spec.base import Frozen

OnnxProfile = Literal["x86", "x86-legacy", "arm", "tensorrt"]
ToolchainName = Literal["openvino", "executorch", "litert", "coreml", "keras"]
"""Converters and runtimes that live in environments of their own, each pinned by `toolchains/<name>.txt`."""


class AnyTarget(Frozen):
    """What all kinds of targets say of themselves."""

    toolchain: ClassVar[ToolchainName | None] = None
    """What converts and runs its artifacts; None: the worker itself."""

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


class OnnxTarget(AnyTarget):
    """An ONNX file for ONNX Runtime.

    Profiles: `x86` (unsigned activations, signed weights; needs VNNI), `x86-legacy` (the same with 7-bit
    weights, exact on CPUs without VNNI, where 8-bit products saturate), `arm` (signed), `tensorrt` (signed,
    symmetric, zero-points 0).
    """

    format: Literal["onnx"] = "onnx"
    profile: OnnxProfile = "x86"

    @property
    def label(self) -> str:
        return f"onnx/{self.profile}"

    @property
    def title(self) -> str:
        return f"ONNX for {self.profile}"

    @property
    def lacks(self) -> frozenset[str]:
        if self.profile != "tensorrt":
            return frozenset()
        return frozenset({"quantize.dynamic", "int3 weights", "int2 weights", "asymmetric weights"})

    @property
    def last_opset(self) -> int | None:
        """That of TensorRT 10.0, the release that Jetson keeps."""
        return 20 if self.profile == "tensorrt" else None

    @property
    def timed(self) -> bool:
        """TensorRT's own runtime is on no worker."""
        return self.profile != "tensorrt"


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


Target = Annotated[OnnxTarget | OpenVinoTarget, Field(discriminator="format")]
TARGETS: tuple[type[AnyTarget], ...] = (OnnxTarget, OpenVinoTarget)
