"""The weight of a convolution or matrix product, in one layout whatever the operator."""

from collections.abc import Iterable

import numpy as np
from onnx import NodeProto

from worker.engine.onnx_graph.index import GraphIndex, attributes

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


def is_layer(index: GraphIndex, node: NodeProto) -> bool:
    """Whether the node is a plain product with a float32 weight that it alone reads."""
    if node.op_type not in LAYERS or len(node.input) < 2 or not index.is_own(node.input[1]):
        return False
    given = attributes(node)
    scaled = given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0)
    axes = len(index.constants[node.input[1]].dims)
    return not scaled and (axes >= 3 if node.op_type == "Conv" else axes == 2)


def has_fixed_outputs(index: GraphIndex, node: NodeProto) -> bool:
    """Whether the outputs of a layer follow from its weight and bias: no other value is added to them."""
    bias = bias_of(node)
    return bias is None or index.is_vector(bias)


def bias_of(node: NodeProto) -> str | None:
    """The name of the bias, None if there is none."""
    return node.input[2] if len(node.input) > 2 and node.input[2] else None


def shift_behind(index: GraphIndex, output: str) -> tuple[NodeProto, int] | None:
    """The Add that alone reads the output of a matrix product, and which of its operands is a constant vector.

    The output may be quantized and dequantized on the way.
    """
    adds = index.only_reader(output)
    while adds is not None and adds.op_type in ("QuantizeLinear", "DequantizeLinear"):
        output = adds.output[0]
        adds = index.only_reader(output)
    if adds is None or adds.op_type != "Add":
        return None
    place = 1 - list(adds.input).index(output)
    return (adds, place) if index.is_vector(adds.input[place]) else None


def weight_of(index: GraphIndex, node: NodeProto, weight: np.ndarray | None = None) -> np.ndarray:
    """The weight, or another of its shape, as a view `[groups, outputs of a group, inputs of a group, kernel]`."""
    weight = index.array(node.input[1]) if weight is None else weight
    if node.op_type == "Conv":
        groups = _groups(node)
        return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return (weight if attributes(node).get("transB", 0) else weight.T)[None, :, :, None]


def scale_outputs(index: GraphIndex, node: NodeProto, factor: np.ndarray) -> None:
    """Multiply a layer's output channels, weight and bias, by `factor` `[channels]`."""
    _scale(index, node, factor.reshape(_groups(node), -1, 1, 1))
    if bias_of(node):
        bias = index.unshared(node, 2)
        index.write(bias, index.array(bias).astype(np.float64) * factor)


def scale_inputs(index: GraphIndex, node: NodeProto, factor: np.ndarray) -> None:
    """Multiply the weights of a layer's input channels by `factor` `[channels]`."""
    _scale(index, node, factor.reshape(_groups(node), 1, -1, 1))


def largest(arrays: Iterable[np.ndarray]) -> float:
    """How far the farthest of all factors is from 1, as a factor above it; 1 where there are none."""
    return float(np.exp(max((np.abs(np.log(array)).max() for array in arrays), default=0.0)))


def _groups(node: NodeProto) -> int:
    return int(str(attributes(node).get("group", 1))) if node.op_type == "Conv" else 1


def _scale(index: GraphIndex, node: NodeProto, factor: np.ndarray) -> None:
    scaled = weight_of(index, node).astype(np.float64) * factor
    shape = index.array(node.input[1]).shape
    transposed = node.op_type != "Conv" and not attributes(node).get("transB", 0)
    index.write(node.input[1], scaled[0, :, :, 0].T if transposed else scaled.reshape(shape))
