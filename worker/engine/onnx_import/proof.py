"""The proof of an import: outputs against ONNX Runtime, and where they differ every operator by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.engine.onnx_graph.intermediate import every_value
from worker.engine.onnx_import.errors import ImportDiffers
from worker.engine.onnx_import.graph import Node
from worker.engine.onnx_import.module import GraphModule
from worker.engine.onnx_import.reference import Arrays, Example
from worker.engine.onnx_import.values import Quantized, Value, array_of, tensor_of

UNSEEN = 1e-6
"""A difference below this counts as none: sigmoids and softmaxes that are zero are not computed further."""
TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest magnitude in it."""
NODE_TOLERANCE = 1e-3
"""The same of one operator that is given what ONNX Runtime gave it; half precision adds its own."""
HALF_TOLERANCE = 2e-2
HALVES = ("float16", "bfloat16")


def tensors_of(module: GraphModule, inputs: Arrays) -> tuple[Tensor, ...]:
    """Inputs by name in the order of the module."""
    return tuple(tensor_of(np.asarray(inputs[name])) for name in module.graph.inputs)


def require_same(module: GraphModule, path: Path, example: Example, threads: int) -> None:
    """Compare the module with the file. Raises `ImportDiffers` with the first node that differs.

    Where outputs differ, every node is given what ONNX Runtime computed for its inputs. If then all agree, the
    difference is the growth of rounding errors, and the import is right.
    """
    tensors = tensors_of(module, example.inputs)
    with torch.no_grad():
        outputs = module.run(tensors)
    differing = [
        name
        for name, output in zip(module.graph.outputs, outputs, strict=True)
        if difference(array_of(output), example.outputs[name]) > _allowed(example.outputs[name], TOLERANCE)
    ]
    if differing:
        _require_same_nodes(module, path, example, threads, tensors, differing)


def _require_same_nodes(
    module: GraphModule, path: Path, example: Example, threads: int, tensors: tuple[Tensor, ...], outputs: list[str]
) -> None:
    own = {id(node) for node in module.graph.nodes}
    wanted = {name for node in module.graph.nodes for name in node.outputs if name}
    expected = every_value(path, wanted, example.inputs, threads)

    def watch(node: Node, results: tuple[Value, ...]) -> tuple[Value, ...]:
        if id(node) not in own:
            return results
        return tuple(
            _checked(node, name, result, expected, outputs) if isinstance(expected.get(name), np.ndarray) else result
            for name, result in zip(node.outputs, results, strict=False)
        )

    with torch.no_grad():
        module.run(tensors, watch)


def _checked(node: Node, name: str, result: Value, expected: Arrays, outputs: list[str]) -> Value:
    """ONNX Runtime's own value in place of a result that agrees with it."""
    want = expected[name]
    if isinstance(result, list) or result is None:
        return result
    if isinstance(result, Quantized):
        return _checked_codes(node, name, result, want)
    got = array_of(result) if isinstance(result, Tensor) else np.asarray(result)
    apart = difference(got, want)
    if apart > _allowed(want, NODE_TOLERANCE):
        raise ImportDiffers(
            f"{node.place} computes something else than in ONNX Runtime: its output '{name}' differs by "
            f"{_said(apart)}; the model's output '{outputs[0]}' does, too."
        )
    return tensor_of(want) if isinstance(result, Tensor) else result


def _checked_codes(node: Node, name: str, result: Quantized, want: np.ndarray) -> Value:
    codes = array_of(result.codes)
    if codes.shape != want.shape or np.abs(codes.astype(np.float64) - want.astype(np.float64)).max(initial=0) > 1:
        raise ImportDiffers(f"{node.place} gives other codes than in ONNX Runtime: '{name}' differs by more than one.")
    real: Any = (tensor_of(want).to(result.real.dtype) - result.zero_point) * result.scale
    return result.moved(real)


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference relative to the largest magnitude; infinite for another shape or type of number."""
    if got.shape != want.shape:
        return float("inf")
    if want.dtype.kind in "OUS" or not want.size:
        return 0.0
    if want.dtype.kind == "b" or got.dtype.kind == "b":
        return float((got != want).mean())
    wide_got, wide_want = (
        array.astype(np.complex128 if array.dtype.kind == "c" else np.float64) for array in (got, want)
    )
    finite = np.isfinite(wide_want)
    if not np.array_equal(finite, np.isfinite(wide_got)):
        return float("inf")
    magnitude = max(UNSEEN, float(np.abs(wide_want[finite]).max(initial=0)))
    apart = float(np.abs(wide_got[finite] - wide_want[finite]).max(initial=0))
    return 0.0 if apart <= UNSEEN else apart / magnitude


def _allowed(want: np.ndarray, tolerance: float) -> float:
    return max(tolerance, HALF_TOLERANCE) if want.dtype.name in HALVES else tolerance


def _said(apart: float) -> str:
    return "its shape or its infinities" if np.isinf(apart) else f"{apart:.2%} of its magnitude"
