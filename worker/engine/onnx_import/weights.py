"""Which constants of a graph are weights, and which of those are trained.

ONNX knows only initializers. A constant is a parameter where an operator has a weight or bias; running statistics,
anchors, masks and tables are buffers; sizes, axes and single numbers are written into the program.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from worker.engine.onnx_import.graph import Graph, Node

Kind = Literal["parameter", "buffer"]
LONG = 64
"""More whole numbers than this are a buffer."""
PLACES: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "DeformConv": (1, 3),
    "Einsum": (0, 1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "QuantizeLinear": (0,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
    "SimplifiedLayerNormalization": (1,),
    "com.microsoft.Attention": (1, 2),
    "com.microsoft.BiasAdd": (1,),
    "com.microsoft.BiasGelu": (1,),
    "com.microsoft.BiasSplitGelu": (1,),
    "com.microsoft.EmbedLayerNormalization": (2, 3, 4, 5, 6),
    "com.microsoft.FastGelu": (1,),
    "com.microsoft.FusedConv": (1, 2),
    "com.microsoft.FusedGemm": (1, 2),
    "com.microsoft.FusedMatMul": (0, 1),
    "com.microsoft.GroupNorm": (1, 2),
    "com.microsoft.MultiHeadAttention": (3,),
    "com.microsoft.NhwcConv": (1, 2),
    "com.microsoft.NhwcFusedConv": (1, 2),
    "com.microsoft.RelativePositionBias": (0,),
    "com.microsoft.SimplifiedLayerNormalization": (1,),
    "com.microsoft.SkipLayerNormalization": (2, 3, 4),
    "com.microsoft.SkipSimplifiedLayerNormalization": (2, 3),
    "pare.GRU": tuple(range(2, 10)),
    "pare.LSTM": tuple(range(3, 11)),
    "pare.Linear": (1, 2),
    "pare.RNN": tuple(range(2, 10)),
}
"""The inputs of each operator that are weights."""
BEFORE_BIAS = frozenset(
    {"MatMul", "Conv", "ConvTranspose", "Gemm", "Einsum", "com.microsoft.FusedMatMul", "Gather", "pare.Linear"}
)
VIEWS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice", "Expand", "Tile"})
GENERATED = ("onnx::", "val_", "_val_", "const_", "/", "Constant", "_inlfunc", "tensor_constant")
"""How exporters call constants that had no name in the model."""
FLOATING = frozenset({"float16", "float32", "float64", "bfloat16"})


class Weights:
    """The constants of a graph and of its bodies that become tensors of the program."""

    def __init__(self, graph: Graph) -> None:
        """Look at every reader of every constant."""
        makers = {name: node for body in graph.walk() for node in body.nodes for name in node.outputs}
        trained = {
            _origin(node.inputs[place], makers)
            for body in graph.walk()
            for node in body.nodes
            for place in _places(node, makers, graph.constants)
            if place < len(node.inputs)
        }
        self._kinds: dict[int, dict[str, Kind]] = {
            id(body): {
                name: "parameter" if name in trained and array.dtype.name in FLOATING else "buffer"
                for name, array in body.constants.items()
                if _is_tensor(array, weight=name in trained)
            }
            for body in graph.walk()
        }

    def of(self, body: Graph) -> Mapping[str, Kind]:
        """Of one body, by the constant's name."""
        return self._kinds[id(body)]


def _is_tensor(array: np.ndarray, *, weight: bool) -> bool:
    if array.dtype.name in FLOATING:
        return array.size > 1 or (weight and array.ndim > 0)
    return array.dtype.kind in "biu" and array.size > LONG


def _origin(name: str, makers: Mapping[str, Node]) -> str:
    """The constant that is looked at through views."""
    while name in makers and makers[name].op in VIEWS:
        name = makers[name].inputs[0]
    return name


def _places(node: Node, makers: Mapping[str, Node], constants: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    if node.op == "Concat":  # a class token, say
        named = (_origin(name, makers) for name in node.inputs)
        return tuple(place for place, name in enumerate(named) if _is_table(name, constants))
    if node.op in ("Add", "Mul"):
        return tuple(place for place in (0, 1) if _is_affine(node, place, makers, constants))
    return PLACES.get(node.op, ())


def _is_affine(node: Node, place: int, makers: Mapping[str, Node], constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a summand or factor is a bias, a scale of channels, or a named table such as positions."""
    name = _origin(node.inputs[place], makers)
    array = constants.get(name)
    if array is None or array.size < 2:
        return False
    other = makers.get(node.inputs[1 - place])
    if node.op == "Add" and other is not None and other.op in BEFORE_BIAS:
        return True
    if sum(size > 1 for size in array.shape) == 1:
        return True
    return node.op == "Add" and _is_table(name, constants)


def _is_table(name: str, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a constant had a name in the model, and is no grid of places."""
    array = constants.get(name)
    return array is not None and array.ndim > 1 and not name.startswith(GENERATED) and "anchor" not in name.lower()
