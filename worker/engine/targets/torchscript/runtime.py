"""LibTorch on this CPU, in this process: what torch itself brings."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.spec.evaluate import Latency
from app.spec.report import Placement, Size
from app.spec.signature import Signature
from worker.engine.errors import LoadFailed
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.running import Arrays
from worker.engine.measure.runtime import Layers
from worker.engine.torch_program.program import quiet
from worker.toolchains.turns import Once, take_turns

COMPUTES = (
    "conv1d",
    "conv2d",
    "conv3d",
    "_convolution",
    "convolution",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
    "addmm",
    "matmul",
    "mm",
    "bmm",
    "baddbmm",
    "scaled_dot_product_attention",
    "lstm",
    "gru",
)
"""Operators that multiply and add, without namespace and fused activation."""
DEPRECATED = "PyTorch has deprecated TorchScript: choose ExecuTorch for anything new."


@dataclass(frozen=True)
class LibTorch:
    """Two TorchScript files, which take and return tensors in the signature's order.

    `engine`: whose integer kernels they are for. `threads`: for everything but latency.
    """

    baseline: Path
    artifact: Path
    signature: Signature
    engine: str
    threads: int
    notes: tuple[str, ...] = ()
    """What to know about the file."""

    name = f"LibTorch {torch.__version__.split('+')[0]}"

    def run(self, feeds: Arrays) -> Arrays:
        """The artifact's outputs by name. Raises `LoadFailed`, `ModelRunFailed`."""
        returned = self._once(self._artifact, feeds)()
        outputs = returned if isinstance(returned, tuple) else (returned,)
        pairs = zip(self.signature.outputs, outputs, strict=True)
        return {tensor.name: _array(output) for tensor, output in pairs}

    def take_turns(self, feeds: Arrays, settings: Latency, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of each run of both, on tensors that were made once. Raises `LoadFailed`, `ModelRunFailed`."""
        once = tuple(self._once(model, feeds) for model in (self._baseline, self._artifact))
        with _threads(settings.threads):
            return take_turns((once[0], once[1]), runs=settings.runs, budget_s=settings.budget_s, seed=seed)

    def profile(self, _feeds: Arrays, _threads: int) -> None:
        """Its operators are fused while it warms up; they are not timed one by one."""

    def placement(self) -> Placement:
        """Operators of the file, which LibTorch calls one by one. Raises `LoadFailed`."""
        counted = Counter(_operators(self._artifact.inlined_graph))
        computes = {
            name: count
            for name, count in counted.items()
            if name.partition("::")[2].partition("_relu")[0].removesuffix("_dynamic") in COMPUTES
        }
        integer = sum(count for name, count in computes.items() if name.startswith("quantized::"))
        return Placement(
            operators=dict(counted.most_common()), integer=integer, floating=sum(computes.values()) - integer
        )

    def layers(self, _rows: AnyRows, _batch: BatchRange, _advance: Callable[[float], None]) -> Layers:
        """Values inside a frozen graph cannot be seen."""
        return (), (DEPRECATED, *self.notes)

    def size(self) -> Size:
        """Bytes on disk of both files."""
        return Size(before_bytes=self.baseline.stat().st_size, after_bytes=self.artifact.stat().st_size)

    @cached_property
    def _baseline(self) -> Any:
        return _loaded(self.baseline, self.engine)

    @cached_property
    def _artifact(self) -> Any:
        return _loaded(self.artifact, self.engine)

    def _once(self, model: Any, feeds: Arrays) -> Once:
        missing = [tensor.name for tensor in self.signature.inputs if tensor.name not in feeds]
        if missing:
            raise ModelRunFailed(f"The data has no array for input {missing[0]!r}.")
        tensors = [
            torch.from_numpy(np.ascontiguousarray(feeds[tensor.name])).to(getattr(torch, tensor.dtype))
            for tensor in self.signature.inputs
        ]

        def once() -> Any:
            torch.backends.quantized.engine = self.engine
            try:
                with torch.inference_mode():
                    return model(*tensors)
            except RuntimeError as error:
                raise ModelRunFailed(f"LibTorch stopped: {str(error)[-500:]}") from error

        return once


def _loaded(path: Path, engine: str) -> Any:
    torch.backends.quantized.engine = engine  # weights are packed for it while the file is read
    try:
        with quiet():
            return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise LoadFailed(f"LibTorch does not load the file: {str(error)[:500]}") from error


def _array(output: Tensor) -> np.ndarray:
    return output.float().numpy() if output.dtype == torch.bfloat16 else output.numpy()


def _operators(block: Any) -> Iterator[str]:
    """Kinds of all nodes that compute, those of inner blocks included."""
    for node in block.nodes():
        if not node.kind().startswith("prim::"):
            yield node.kind()
        for inner in node.blocks():
            yield from _operators(inner)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
