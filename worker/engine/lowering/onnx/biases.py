"""Bias correction: rounding a weight shifts the mean of a layer's outputs; the bias takes the shift back.

M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2. A
layer is linear, so the shift is the weight's error times the mean of what meets it. The plan holds that mean; the
error is that of the weights as this graph rounds them, be it to 8 bits or to 7.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.onnx_graph.layers import bias_of, shift_behind, weight_of
from worker.engine.onnx_graph.names import free_name, taken_names


def add_missing_biases(graph: GraphProto, nodes: Iterable[str]) -> None:
    """Give a zero bias to those of the convolutions and Gemms named that have none, to be corrected later."""
    index, chosen, taken = GraphIndex(graph), frozenset(nodes), taken_names(graph)
    for node in graph.node:
        if node.name in chosen and node.op_type != "MatMul" and bias_of(node) is None:
            zero = np.zeros(weight_of(index, node).shape[:2], np.float32).reshape(-1)
            name = free_name(f"{node.name}/bias", taken)
            graph.initializer.append(numpy_helper.from_array(zero, name))
            del node.input[2:]
            node.input.append(name)


def correct_biases(lowered: GraphProto, original: GraphProto, means: Mapping[str, np.ndarray]) -> int:
    """Take back the shifts of layers by their rounded weights, which are floats or codes in front of DequantizeLinear.

    `original` is the float graph it was made from, `means` what meets each weight on average, float64
    `[groups, inputs of a group, kernel]`, by the node's name. Returns the number of layers corrected.
    """
    index, corrected = GraphIndex(lowered), 0
    for node, shift in _shifts(index, original, means):
        corrected += _subtract(index, node, shift)
    return corrected


@dataclass(frozen=True)
class OpenBias:
    """A bias that can be given to a graph when it runs."""

    name: str
    """Of the input."""
    corrected: np.ndarray
    """float32: the bias less the shift."""


def open_biases(lowered: GraphProto, original: GraphProto, means: Mapping[str, np.ndarray]) -> dict[str, OpenBias]:
    """Make the biases that `correct_biases` would change inputs, with what they are now as a default; by node."""
    index, taken = GraphIndex(lowered), taken_names(lowered)
    opened = {}
    for node, shift in _shifts(index, original, means):
        place = _bias_place(index, node)
        bias = None if place is None else dequantized(index, place[0].input[place[1]])
        if place is None or bias is None:
            continue
        name = free_name(f"{node.name}/open_bias", taken)
        default = numpy_helper.from_array(bias.astype(np.float32), name)
        lowered.initializer.append(default)
        lowered.input.append(helper.make_tensor_value_info(name, default.data_type, bias.shape))
        place[0].input[place[1]] = name
        opened[node.name] = OpenBias(name, (bias - shift).astype(np.float32))
    return opened


def _shifts(
    lowered: GraphIndex, original: GraphProto, means: Mapping[str, np.ndarray]
) -> Iterator[tuple[NodeProto, np.ndarray]]:
    """The layers whose weight was rounded, with the shift of each output's mean."""
    exact, before = GraphIndex(original), {node.name: node for node in original.node if node.name in means}
    for node in list(lowered.graph.node):
        weight = dequantized(lowered, node.input[1]) if node.name in before else None
        if weight is not None:
            error = weight_of(exact, before[node.name], weight) - weight_of(exact, before[node.name])
            yield node, np.einsum("goik,gik->go", error, means[node.name]).reshape(-1)


def dequantized(index: GraphIndex, value: str) -> np.ndarray | None:
    """A float constant, or what DequantizeLinear makes of codes, float64; None for any other value."""
    if index.is_float(value):
        return index.array(value).astype(np.float64)
    node = index.maker.get(value)
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in index.constants:
        return None
    codes, scale = (index.array(name).astype(np.float64) for name in node.input[:2])
    zero = index.array(node.input[2]).astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
    given: dict = attributes(node)
    axis, block = given.get("axis", 1), given.get("block_size", 0)
    if block:
        scale, zero = (
            np.repeat(parameter, block, axis).take(range(codes.shape[axis]), axis) for parameter in (scale, zero)
        )
    elif scale.ndim == 1 and scale.size > 1:
        shape = [-1 if place == axis % codes.ndim else 1 for place in range(codes.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (codes - zero) * scale


def _bias_place(index: GraphIndex, node: NodeProto) -> tuple[NodeProto, int] | None:
    """Who reads a layer's bias, and where: the layer itself, or an Add behind a MatMul."""
    place: tuple[NodeProto, int] | None = (node, 2)
    if node.op_type == "MatMul":
        place = shift_behind(index, node.output[0])
    return None if place is None or len(place[0].input) <= place[1] else place


def _subtract(index: GraphIndex, node: NodeProto, shift: np.ndarray) -> bool:
    """Subtract from a layer's bias, be it of floats or of 32-bit integers; whether there is one."""
    place = _bias_place(index, node)
    if place is None:
        return False
    reader, position = place
    name = reader.input[position]
    if index.is_vector(name):
        own = index.unshared(reader, position)
        index.write(own, index.array(own) - shift)
        return True
    maker = index.maker.get(name)
    if maker is None or maker.op_type != "DequantizeLinear" or not index.is_constant(maker.input[0], TensorProto.INT32):
        return False
    codes, scale = (index.array(operand).astype(np.float64) for operand in maker.input[:2])
    limits = np.iinfo(np.int32)
    index.write(maker.input[0], np.clip(np.rint(codes - shift / scale), limits.min, limits.max))
    return True
