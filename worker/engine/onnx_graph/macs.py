"""Multiply-accumulates of an ONNX graph, by the shapes that the library infers."""

import math
from collections import Counter
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, helper, shape_inference

from app.spec.signature import Signature
from worker.engine.data.synthetic import example_shapes

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
COUNTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", *GATES})
ALSO_MULTIPLY = frozenset(
    {
        "Einsum",
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "FusedMatMul",
        "FusedGemm",
        "FusedConv",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "MatMulNBits",
    }
)
Shape = tuple[int | None, ...]


def onnx_macs(path: Path, signature: Signature) -> tuple[int | None, str]:
    """For one row, and what the count leaves out; None if a shape that matters is not known before the graph runs."""
    model = onnx.load(path, load_external_data=False)
    shapes = inferred_shapes(model, signature)
    total = 0
    for node in model.graph.node:
        if node.op_type in COUNTED:
            macs = macs_of(node, shapes)
            if macs is None:
                return None, f"The sizes at {node.op_type} '{node.name}' are only known when the model runs."
            total += macs
    others = Counter(node.op_type for node in model.graph.node if node.op_type in ALSO_MULTIPLY)
    note = ", ".join(f"{name} ({count}x)" for name, count in sorted(others.items()))
    return total // rows_counted(signature), f"Not counted: {note}." if note else ""


def rows_counted(signature: Signature) -> int:
    """Rows in the shapes that `inferred_shapes` finds: one, or the fixed batch."""
    first = signature.inputs[0]
    return max(1, example_shapes(signature, rows=1)[first.name][0]) if first.shape else 1


def inferred_shapes(model: ModelProto, signature: Signature) -> dict[str, Shape]:
    """Of every value, with one row and the usual sizes elsewhere; None for a size that is not known."""
    graph = model.graph
    sizes = example_shapes(signature, rows=1)
    for value in graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False):
            dimension.dim_value = size
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    known: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            known[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
            )
    return known


def macs_of(node: NodeProto, shapes: dict[str, Shape]) -> int | None:
    """Of one of the `COUNTED` operators, for all rows; None if a size is not known."""
    first, second, out = (shapes.get(name, (None,)) for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return _times(*out, *second[1:])
    if node.op_type == "ConvTranspose":
        return _times(*first, *second[1:])
    if node.op_type == "MatMul":
        return _times(*out, first[-1] or second[-2 if len(second) > 1 else 0])
    if node.op_type == "Gemm":  # by its second operand: a weight, whose shape is known
        flags = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        return _times(*out, second[1 if flags.get("transB") else 0])
    steps, hidden = _times(*first[:2]), shapes.get(node.input[2], (None,))
    each = _times(*second), _times(*hidden)  # [directions, gates x hidden, incoming] and [.., hidden]
    return None if steps is None or None in each else steps * sum(count for count in each if count is not None)


def _times(*sizes: int | None) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
