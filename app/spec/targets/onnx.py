"""An ONNX file for ONNX Runtime."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.targets.base import CPUS, AgentRuntime, AnyTarget, Processor
from app.spec.targets.tensorrt import TENSORRT_LACKS

OnnxProfile = Literal["x86", "x86-legacy", "arm", "tensorrt"]
MADE_FOR: dict[OnnxProfile, frozenset[Processor]] = {
    "x86": frozenset({"x86"}),
    "x86-legacy": frozenset({"x86"}),
    "arm": frozenset({"arm"}),
    "tensorrt": frozenset({"nvidia"}),
}


class OnnxTarget(AnyTarget):
    """An ONNX file for ONNX Runtime.

    Profiles: `x86` (unsigned activations, signed weights; needs VNNI), `x86-legacy` (the same with 7-bit
    weights, exact on CPUs without VNNI, where 8-bit products saturate), `arm` (signed), `tensorrt` (signed,
    symmetric, zero-points 0; format `tensorrt` also has commands and float16).
    """

    agent_runtime: ClassVar[AgentRuntime | None] = "onnxruntime"

    format: Literal["onnx"] = "onnx"
    profile: OnnxProfile = "x86"
    opset: int | None = Field(
        None, ge=17, le=21, description="Versions of the operators, for older runtimes. None: as the graph needs them."
    )

    @property
    def label(self) -> str:
        return f"onnx/{self.profile}" if self.opset is None else f"onnx/{self.profile}-opset-{self.opset}"

    @property
    def title(self) -> str:
        return f"ONNX for {self.profile}" if self.opset is None else f"ONNX for {self.profile}, opset {self.opset}"

    @property
    def lacks(self) -> frozenset[str]:
        return TENSORRT_LACKS if self.profile == "tensorrt" else frozenset()

    @property
    def last_opset(self) -> int | None:
        """That of TensorRT 10.0, the release that Jetson keeps."""
        return 20 if self.profile == "tensorrt" else None

    @property
    def timed(self) -> bool:
        """TensorRT's own runtime is on no worker."""
        return self.profile != "tensorrt"

    @property
    def processors(self) -> frozenset[Processor]:
        """ONNX Runtime runs every profile on every CPU, and not always fast."""
        return CPUS | MADE_FOR[self.profile]

    @property
    def made_for(self) -> frozenset[Processor]:
        return MADE_FOR[self.profile]

    @property
    def symmetric(self) -> bool:
        return self.profile == "tensorrt"

    @property
    def saturates(self) -> bool:
        return self.profile == "x86-legacy"
