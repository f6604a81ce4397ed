"""A model repository for NVIDIA Triton Inference Server."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.spec.targets.base import AnyTarget, Processor
from app.spec.targets.onnx import OnnxTarget
from app.spec.targets.openvino import OpenVinoTarget
from app.spec.targets.tensorrt import TensorRtTarget

TritonBackend = Literal["onnx", "openvino", "tensorrt"]
INNER: dict[TritonBackend, OnnxTarget | OpenVinoTarget | TensorRtTarget] = {
    "onnx": OnnxTarget(),
    "openvino": OpenVinoTarget(),
    "tensorrt": TensorRtTarget(),
}


class TritonTarget(AnyTarget):
    """A model repository (`.zip`) for NVIDIA Triton Inference Server: an artifact, and `config.pbtxt` with batching.

    `backend` is what runs the artifact: `onnx` and `openvino` on CPUs; `tensorrt` on GPUs, its engine to be built on
    the server. Requests are put together to batches of up to `max_batch_size`, if the model's batch varies.
    """

    format: Literal["triton"] = "triton"
    backend: TritonBackend = "onnx"
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        "model", description="Of the model on the server, and of its folder."
    )
    max_batch_size: int = Field(32, ge=0, le=4096, description="Rows that the model is given at once; 0: no batching.")
    max_queue_delay_us: int = Field(
        100, ge=0, le=60_000_000, description="Microseconds that a request waits for others to share its batch."
    )
    instances: int = Field(1, ge=1, le=64, description="Copies of the model that run beside each other.")

    @property
    def inner(self) -> OnnxTarget | OpenVinoTarget | TensorRtTarget:
        """What the repository holds."""
        return INNER[self.backend]

    @property
    def label(self) -> str:
        return f"triton/{self.backend}"

    @property
    def title(self) -> str:
        return f"Triton, {self.inner.title}"

    @property
    def lacks(self) -> frozenset[str]:
        return self.inner.lacks

    @property
    def last_opset(self) -> int | None:
        """That of what it holds."""
        return self.inner.last_opset

    @property
    def timed(self) -> bool:
        """What it holds is what is timed; the server's own share is not."""
        return self.inner.timed

    @property
    def processors(self) -> frozenset[Processor]:
        return self.inner.processors

    @property
    def made_for(self) -> frozenset[Processor] | None:
        return self.inner.made_for

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric
