"""An ONNX file from which NVIDIA TensorRT builds its engine."""

from typing import Literal

from app.spec.quantize import UNUSUAL_BLOCKS
from app.spec.targets.base import AnyTarget, Processor

TensorRtProfile = Literal["trt10", "trt11"]


class TensorRtTarget(AnyTarget):
    """An ONNX file from which NVIDIA TensorRT builds its engine, checked against TensorRT's rules.

    Profiles: `trt10` (all of TensorRT 10, Jetson's) and `trt11`. Quantized steps become QuantizeLinear and
    DequantizeLinear, signed and symmetric. `precision` is that of what is left in floating point: `fp16` is written
    into the graph, which TensorRT 11 obeys to the letter.
    """

    format: Literal["tensorrt"] = "tensorrt"
    profile: TensorRtProfile = "trt10"
    precision: Literal["fp32", "fp16"] = "fp32"

    @property
    def label(self) -> str:
        return f"tensorrt/{self.profile}-{self.precision}"

    @property
    def title(self) -> str:
        return f"TensorRT {self.profile.removeprefix('trt')}, {self.precision}"

    @property
    def lacks(self) -> frozenset[str]:
        return TENSORRT_LACKS

    @property
    def last_opset(self) -> int | None:
        """That of TensorRT 10.0, the first that Jetson may have, and of 11."""
        return 20 if self.profile == "trt10" else 25

    @property
    def timed(self) -> bool:
        """Speed can be promised by no worker: few have TensorRT, and those time it as it comes."""
        return False

    @property
    def processors(self) -> frozenset[Processor]:
        return frozenset({"nvidia"})

    @property
    def symmetric(self) -> bool:
        return True


TENSORRT_LACKS = frozenset({"quantize.dynamic", "int3 weights", "int2 weights", "asymmetric weights", UNUSUAL_BLOCKS})
"""It has no operators that quantize while the model runs; 4-bit weights have a scale for every 64 or 128."""
