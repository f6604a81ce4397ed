"""An ONNX file for ONNX Runtime."""

from typing import Literal

from app.spec.targets.base import AnyTarget

OnnxProfile = Literal["x86", "x86-legacy", "arm", "tensorrt"]


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
