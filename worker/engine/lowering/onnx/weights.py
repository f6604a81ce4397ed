"""Weights in fewer bits as an ONNX graph: codes, and the nodes that make float weights of them.

On CPUs the runtime folds these nodes when it loads the model, so it computes with float32 kernels at their speed. Left
to a DequantizeLinear, an 8-bit weight would be dequantized in every run; MatMulNBits, which multiplies packed weights,
was no faster on a MiniLM.
"""

import ml_dtypes
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto

from worker.engine.errors import PlanNotSupported
from worker.engine.onnx_graph.names import free_prefix, taken_names
from worker.engine.onnx_graph.opsets import with_opset
from worker.engine.onnx_graph.packed import (
    add_constant,
    add_node,
    add_tensor,
    add_unsigned,
    remove_initializers,
    require_opset,
    shared_constant,
)
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.grids import CodedWeight
from worker.engine.plan.plan import WeightsPlan

TENSORRT_BLOCKS = (64, 128)
INT4_OPSET = 21
"""The first with 4-bit integers and blocks in DequantizeLinear."""


def lower_weights(plan: WeightsPlan) -> ModelProto:
    """The graph with packed weights that are unpacked by arithmetic."""
    model = onnx.load(plan.graph)
    taken = taken_names(model.graph)
    remove_initializers(model.graph, set(plan.weights))
    for name, weight in plan.weights.items():
        _add_arithmetic(model.graph, name, weight, free_prefix(name, taken))
    require_opset(model)
    sort_nodes(model.graph)
    return model


def _add_arithmetic(graph: GraphProto, name: str, weight: CodedWeight, prefix: str) -> None:
    """Nodes that compute the weight: (code - zero) * scale, then its own shape and order of axes."""
    grid, layout = weight.grid, weight.layout
    add_unsigned(graph, f"{prefix}/codes", weight.codes, weight.bits)
    value = add_node(graph, "Cast", [f"{prefix}/codes"], f"{prefix}/floats", to=TensorProto.FLOAT)
    middle = np.array(grid.shape.middle, np.float32)
    zero = shared_constant(graph, middle) if grid.zeros is None else _float32(graph, f"{prefix}/zeros", grid.zeros)
    value = add_node(graph, "Sub", [value, zero], f"{prefix}/steps")
    value = add_node(graph, "Mul", [value, _float32(graph, f"{prefix}/scales", grid.scales)], f"{prefix}/values")
    rows, blocks, width = weight.codes.shape
    if blocks * width > layout.columns:
        flat = shared_constant(graph, np.array([rows, -1], np.int64))
        value = add_node(graph, "Reshape", [value, flat], f"{prefix}/filled")
        bounds = [shared_constant(graph, np.array([bound], np.int64)) for bound in (0, layout.columns, 1)]
        value = add_node(graph, "Slice", [value, *bounds], f"{prefix}/matrix")
    add_tensor(graph, value, name, layout, prefix)


def _float32(graph: GraphProto, name: str, stored: np.ndarray) -> str:
    """A constant as float32, cast where it is stored as float16."""
    add_constant(graph, name, stored)
    if stored.dtype == np.float32:
        return name
    return add_node(graph, "Cast", [name], f"{name}/float", to=TensorProto.FLOAT)


def lower_weights_for_tensorrt(plan: WeightsPlan) -> ModelProto:
    """The graph with a DequantizeLinear behind each weight that TensorRT takes so; the others hold rounded floats.

    8 bits: a scale for each output of any product or convolution. 4 bits: blocks of 64 or 128 along the inputs of a
    matrix product between two axes. Raises `PlanNotSupported`.
    """
    model = onnx.load(plan.graph)
    if any(weight.bits == 4 for weight in plan.weights.values()):
        model = with_opset(model, INT4_OPSET, "A 4-bit weight")
    graph = model.graph
    taken = taken_names(graph)
    operators = {name: node.op_type for node in graph.node for name in node.input if name in plan.weights}
    remove_initializers(graph, set(plan.weights))
    for name, weight in plan.weights.items():
        if weight.bits not in (4, 8) or weight.grid.zeros is not None:
            raise PlanNotSupported(
                "TensorRT takes weights of 8 or 4 bits on symmetric grids.",
                remedy="Use int8, or int4 with symmetric set to true, or deliver for another target.",
            )
        product = operators[name] in ("MatMul", "Gemm") and len(weight.layout.shape) == 2
        if weight.bits == 8 and weight.codes.shape[1] == 1 and (product or operators[name].startswith("Conv")):
            _add_int8(graph, name, weight, free_prefix(name, taken))
        elif weight.bits == 4 and product and _fills_blocks(weight):
            _add_int4(graph, name, weight, free_prefix(name, taken))
        else:
            add_constant(graph, name, weight.values())
    sort_nodes(graph)
    return model


def _fills_blocks(weight: CodedWeight) -> bool:
    """Whether TensorRT has blocks of this size, and they fill the rows. Raises `PlanNotSupported` for other sizes."""
    _, blocks, width = weight.codes.shape
    if width not in TENSORRT_BLOCKS and weight.layout.columns > TENSORRT_BLOCKS[0]:
        raise PlanNotSupported(
            f"TensorRT takes 4-bit weights in blocks of 64 or 128, not {width}.",
            remedy="Set `block` of quantize.weights to 64 or 128, or deliver for another target.",
        )
    return width in TENSORRT_BLOCKS and blocks * width == weight.layout.columns


def _add_int8(graph: GraphProto, name: str, weight: CodedWeight, prefix: str) -> None:
    codes = (weight.codes.astype(np.int16) - weight.grid.shape.middle).astype(np.int8)
    add_constant(graph, f"{prefix}/codes", weight.layout.tensor(codes))
    add_constant(graph, f"{prefix}/scales", weight.grid.scale.reshape(-1))
    add_constant(graph, f"{prefix}/zeros", np.zeros(len(codes), np.int8))
    inputs = [f"{prefix}/codes", f"{prefix}/scales", f"{prefix}/zeros"]
    add_node(graph, "DequantizeLinear", inputs, name, axis=weight.layout.axes[0])


def _add_int4(graph: GraphProto, name: str, weight: CodedWeight, prefix: str) -> None:
    layout = weight.layout
    codes = (weight.codes.astype(np.int8) - weight.grid.shape.middle).astype(ml_dtypes.int4)
    scales = weight.grid.scale[:, :, 0].transpose(layout.back)
    add_constant(graph, f"{prefix}/codes", layout.tensor(codes))
    add_constant(graph, f"{prefix}/scales", np.ascontiguousarray(scales))
    add_constant(graph, f"{prefix}/zeros", np.zeros(scales.shape, ml_dtypes.int4))
    inputs = [f"{prefix}/codes", f"{prefix}/scales", f"{prefix}/zeros"]
    add_node(graph, "DequantizeLinear", inputs, name, axis=layout.axes[1], block_size=weight.codes.shape[2])
