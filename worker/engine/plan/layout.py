"""The weights of a graph, each as a matrix whose rows are quantized one by one."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto

from app.spec.quantize import Skip
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.selection import (
    is_finite,
    is_plain_gemm,
    require_float32_weights,
    require_weights_outside_of_branches,
    skipped_nodes,
)

SMALLEST = 512
"""Elements of a weight worth coding: scales and the nodes that unpack it take about a kilobyte."""
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True)
class Layout:
    """How a tensor is taken for a matrix `[rows, columns]`: a row makes one output (or is one embedding)."""

    axes: tuple[int, ...]
    """The tensor's axes, permuted so that those of the rows come first."""
    shape: tuple[int, ...]
    """The tensor's shape after the permutation."""
    inner: int
    """How many of the last axes make the columns."""

    @property
    def columns(self) -> int:
        """Weights that are added up for one output."""
        return prod(self.shape[len(self.shape) - self.inner :])

    @property
    def rows(self) -> int:
        """Number of outputs: rows of the matrix."""
        return prod(self.shape[: len(self.shape) - self.inner])

    @property
    def swapped(self) -> bool:
        """Whether the tensor's axes are in another order than the matrix's."""
        return self.axes != tuple(range(len(self.axes)))

    @property
    def back(self) -> tuple[int, ...]:
        """The permutation from the matrix's order of axes to the tensor's."""
        return tuple(int(place) for place in np.argsort(self.axes))

    def matrix(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor as `[rows, columns]`."""
        return np.ascontiguousarray(tensor.transpose(self.axes)).reshape(self.rows, self.columns)

    def tensor(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix as a tensor again."""
        return np.ascontiguousarray(matrix.reshape(self.shape).transpose(self.back))


@dataclass(frozen=True)
class Weight:
    """A constant float32 operand, and the first node that reads it."""

    name: str
    layout: Layout
    node: NodeProto

    @property
    def operator(self) -> str:
        """The operator it belongs to."""
        return str(self.node.op_type)


def chosen_weights(skip: Skip, graph: GraphProto, original: Path) -> tuple[Weight, ...]:
    """The weights of the prepared graph that the skip list leaves. Raises `UnknownNode`, `NothingToQuantize`."""
    uploaded = onnx.load(original, load_external_data=False).graph
    weights = weights_of(graph, skipped_nodes(skip, uploaded, graph))
    if not weights:
        require_float32_weights(uploaded)
        require_weights_outside_of_branches(graph)
        raise NothingToQuantize(
            f"No float32 weight of at least {SMALLEST} values is left.", remedy="Shorten the skip list."
        )
    return weights


def weights_of(graph: GraphProto, skipped: Iterable[str] = ()) -> tuple[Weight, ...]:
    """The weights of products, convolutions, recurrences and embeddings, in the order in which they are first read.

    A tensor that a skipped node reads is left out, whoever else reads it.
    """
    skipped = frozenset(skipped)
    floats = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and prod(tensor.dims) >= SMALLEST and is_finite(tensor)
    }
    kept = {name for node in graph.node if node.name in skipped for name in node.input}
    weights: dict[str, Weight] = {}
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            for place in _places(node):
                name = node.input[place] if place < len(node.input) else ""
                if name in floats and name not in kept and name not in weights:
                    weights[name] = Weight(name, _layout(node, floats[name]), node)
    return tuple(weights.values())


def _places(node: NodeProto) -> tuple[int, ...]:
    """Which operands of a node are weights."""
    if node.op_type == "Gather":
        return (0,) if attribute(node, "axis", 0) == 0 else ()
    if node.op_type == "Gemm" and not is_plain_gemm(node):
        return ()
    if node.op_type in RECURRENT:
        return (1, 2)
    return (1,) if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") else ()


def _layout(node: NodeProto, shape: tuple[int, ...]) -> Layout:
    axes = list(range(len(shape)))
    inner = len(shape) - 1
    if node.op_type == "ConvTranspose":  # [inputs, outputs, ...]
        axes[:2] = 1, 0
    elif node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        axes[-2:] = [*axes[-2:]][::-1]
        inner = 1
    elif node.op_type in RECURRENT or node.op_type == "Gemm":
        inner = 1
    return Layout(tuple(axes), tuple(shape[axis] for axis in axes), inner)


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)
