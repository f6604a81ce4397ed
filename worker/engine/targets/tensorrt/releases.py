"""The releases of TensorRT that a model can be delivered for."""

from dataclasses import dataclass

from app.spec.targets import TensorRtProfile
from worker.engine.targets.tensorrt.operators import Version


@dataclass(frozen=True)
class Release:
    """What distinguishes one from another."""

    profile: TensorRtProfile
    title: str
    oldest: Version
    """The oldest that must read what is delivered."""
    last_opset: int
    last_opset_int4: int
    """Where a graph has 4-bit integers, which ONNX has since 21."""
    strongly_typed: bool
    """Each tensor has the type that the graph gives it; there are no flags for precision."""


RELEASES: dict[TensorRtProfile, Release] = {
    # Jetson stays on 10: JetPack 6.2 has 10.3. What 10.0 reads, all of them read.
    "trt10": Release("trt10", "TensorRT 10", (10, 0), 20, 21, strongly_typed=False),
    # "ONNX Opset Guide": at most 25.
    "trt11": Release("trt11", "TensorRT 11", (11, 0), 25, 25, strongly_typed=True),
}
