"""Where the result will run. The quantization profile belongs here: one plan suits every place in its own way."""

from typing import Literal

from app.spec.base import Frozen

OnnxProfile = Literal["x86", "x86-legacy", "arm", "tensorrt"]


class OnnxTarget(Frozen):
    """An ONNX file for ONNX Runtime.

    Profiles: `x86` (unsigned activations, signed weights; needs VNNI), `x86-legacy` (the same with 7-bit
    weights, exact on CPUs without VNNI, where 8-bit products saturate), `arm` (signed), `tensorrt` (signed,
    symmetric, zero-points 0).
    """

    format: Literal["onnx"] = "onnx"
    profile: OnnxProfile = "x86"


Target = OnnxTarget

UNSUPPORTED_STEPS: dict[tuple[str, str], frozenset[str]] = {
    ("onnx", "tensorrt"): frozenset({"quantize.dynamic", "int3 weights", "int2 weights", "asymmetric weights"}),
}
"""Steps, or what a step may demand, that a target cannot carry out, by format and profile; refused at submission."""

LAST_OPSET: dict[tuple[str, str], int] = {("onnx", "tensorrt"): 20}
"""The newest opset a target reads, by format and profile: that of TensorRT 10.0, the release that Jetson keeps."""


def last_opset(target: Target) -> int | None:
    """The newest opset that the target reads; None where that is the runtime's own limit."""
    return LAST_OPSET.get((target.format, target.profile))


def supports(target: Target, step: str) -> bool:
    """Whether the target can deliver what a step of this type makes, or something that a step demands."""
    return step not in UNSUPPORTED_STEPS.get((target.format, target.profile), frozenset())


def is_timed(target: Target) -> bool:
    """Whether some worker can measure the target's speed: TensorRT's own runtime is not among them."""
    return target.profile != "tensorrt"
