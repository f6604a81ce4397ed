"""Layers that a plan leaves in floating point, written so that the runtime does not round them after all.

While it loads a graph, ONNX Runtime (1.31.1, `WeightBiasQuantization`) gives a float Conv, ConvTranspose or Gemm one
int8 scale for its whole weight, and executes it on integers, where
- its data comes out of a DequantizeLinear with a single scale, directly or through operators that only move data,
- its weight is a float32 constant, and its bias, if it has one, a constant with one axis,
- a QuantizeLinear alone reads its output, directly or behind a Relu or Clip, or through such operators.
A MatMul is safe, but one with a constant added becomes a Gemm first. Plans do this wherever they skip a layer in the
middle. Two forms of the same numbers are not recognized: data dequantized with a vector of equal scales, which took a
convolution no longer (a Gemm 10 to 20 %), and a Gemm's bias as a row of a matrix. Clips, and LeakyRelus with slope 1,
behind the layer are removed, or cost a depthwise convolution a quarter of its time.

An AveragePool between the two becomes a QLinearAveragePool in the same way, even one that this kernel does not know:
what it reads is summed up with nothing else.
"""

import numpy as np
from onnx import NodeProto

from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.lowering.onnx.quantized_graph import QuantizedGraph
from worker.engine.onnx_graph.index import GraphIndex, attributes
from worker.engine.onnx_graph.layers import shift_behind
from worker.engine.onnx_graph.names import free_name, taken_names
from worker.engine.onnx_graph.packed import add_constant, add_node
from worker.engine.plan.selection import WEIGHTED, has_integer_pool

MOVED_THROUGH = frozenset(
    {"Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators in front of which the runtime quantizes and dequantizes just as well as behind them, or that it fuses."""


def keep_floats(quantized: QuantizedGraph, profile: Profile) -> None:
    """Change what layers in floating point read; every value stays what it was."""
    index, tensors = GraphIndex(quantized.model.graph), quantized.tensors_by_codes()
    taken = taken_names(quantized.model.graph)
    by_channel: dict[str, str] = {}
    for node in list(quantized.model.graph.node):
        if node.op_type == "AveragePool" and not has_integer_pool(node):
            _read_as_sum(index, node, taken)
        if node.op_type not in WEIGHTED or not index.is_float(node.input[1]):
            continue
        reader, made_by = _source(index, node)
        if made_by is None or made_by.op_type != "DequantizeLinear":
            continue
        if profile.symmetric_activations:
            _read_unrounded(index, reader, made_by)
        elif node.op_type in ("Gemm", "MatMul"):
            _add_row(index, node, taken)
        else:
            value = tensors.get(made_by.input[0], made_by.output[0])
            if value not in by_channel:
                by_channel[value] = _dequantized_by_channel(index, node, reader, made_by, value, taken)
            reader.input[0] = by_channel[value]


def _read_as_sum(index: GraphIndex, pool: NodeProto, taken: set[str]) -> None:
    """Have a pool read the sum of its input and nothing else, which is no DequantizeLinear."""
    name = free_name(f"{pool.input[0]}/sum", taken)
    pool.input[0] = add_node(index.graph, "Sum", [pool.input[0]], name)


def _source(index: GraphIndex, layer: NodeProto) -> tuple[NodeProto, NodeProto | None]:
    """The first node on the data's way into a layer that only moves them, else the layer; and who makes the data."""
    reader, made_by = layer, index.maker.get(layer.input[0])
    while made_by is not None and made_by.op_type in MOVED_THROUGH:
        reader, made_by = made_by, index.maker.get(made_by.input[0])
    return reader, made_by


def _read_unrounded(index: GraphIndex, reader: NodeProto, dequantizes: NodeProto) -> None:
    """For TensorRT, which takes one scale for an activation: there, what is quantized was always computed as floats."""
    quantizes = index.maker.get(dequantizes.input[0])
    if quantizes is not None and quantizes.op_type == "QuantizeLinear":
        reader.input[0] = quantizes.input[0]


def _dequantized_by_channel(
    index: GraphIndex, layer: NodeProto, reader: NodeProto, dequantizes: NodeProto, value: str, taken: set[str]
) -> str:
    """`value` of the float graph dequantized once more, its one scale repeated along an axis whose size is known.

    As it was where none is known.
    """
    sizes = index.sizes(value)
    if reader is layer:
        sizes = [0, _channels(index, layer)]
    axis = next((axis for axis, size in enumerate(sizes) if axis and size), None)
    if axis is None:
        return str(dequantizes.output[0])
    floats = free_name(f"{value}/by_channel", taken)
    parameters = [free_name(f"{floats}/{name}", taken) for name in ("scales", "zero_points")]
    for name, single in zip(parameters, dequantizes.input[1:], strict=True):
        add_constant(index.graph, name, np.repeat(index.array(single).reshape(1), sizes[axis]))
    return add_node(index.graph, "DequantizeLinear", [dequantizes.input[0], *parameters], floats, axis=axis)


def _channels(index: GraphIndex, convolution: NodeProto) -> int:
    """How many a convolution reads."""
    outer, inner = index.constants[convolution.input[1]].dims[:2]
    return outer if convolution.op_type == "ConvTranspose" else inner * attributes(convolution).get("group", 1)


def _add_row(index: GraphIndex, product: NodeProto, taken: set[str]) -> None:
    """Give a matrix product's bias a second axis, in front; a Gemm without bias one of zeros."""
    if product.op_type == "Gemm" and not "".join(product.input[2:]):
        columns = index.constants[product.input[1]].dims[0 if attributes(product).get("transB", 0) else 1]
        row = free_name(f"{product.name}/row", taken)
        add_constant(index.graph, row, np.zeros((1, columns), np.float32))
        del product.input[2:]
        product.input.append(row)
        return
    place: tuple[NodeProto, int] | None = (product, 2)
    if product.op_type == "MatMul":
        place = shift_behind(index, product.output[0]) if (index.rank(product.output[0]) or 0) > 1 else None
    if place is not None and index.is_vector(place[0].input[place[1]]):
        own = index.unshared(*place)
        index.write(own, index.array(own).reshape(1, -1))
