"""Packed codes in an ONNX graph: bytes as initializers, and nodes that unpack them while the model is loaded.

Constant folding computes the codes once, before the runtime looks for integer kernels: a packed 2-bit weight in front
of a DequantizeLinear still becomes a QLinearConv. The file is small; memory holds the codes as bytes. INT4 and INT2
tensors would need opset 21 and 25, and 3 bits have no type at all; these nodes need opset 14.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from worker.engine.onnx_graph.file import default_opset
from worker.engine.onnx_graph.names import free_prefix, taken_names
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.layout import Layout
from worker.engine.plan.packing import PLANES, pack

OPSET = 14
"""The first in which Add takes 8-bit integers."""


def require_opset(model: ModelProto) -> None:
    """Declare the opset that unpacking needs. From 13, the oldest admitted, to 14 no operator changes its meaning."""
    if default_opset(model) < OPSET:
        for opset in model.opset_import:
            if opset.domain in ("", "ai.onnx"):
                opset.version = OPSET


def store_packed(model: ModelProto, names: dict[str, int]) -> None:
    """Pack int8 initializers that hold signed codes of fewer bits, by name; what reads them stays as it is.

    A width of `bits`, 2 to 7, holds -2**(bits-1) ... 2**(bits-1) - 1. Raises `ValueError` where a code does not fit.
    """
    graph = model.graph
    stored, taken = {tensor.name: tensor for tensor in graph.initializer}, taken_names(graph)
    for name, bits in names.items():
        codes = numpy_helper.to_array(stored[name])
        if codes.dtype != np.int8:
            raise ValueError(f"{name} is not int8")
        graph.initializer.remove(stored[name])
        add_signed(graph, name, codes, bits, free_prefix(name, taken))
    require_opset(model)
    sort_nodes(graph)


def add_signed(graph: GraphProto, name: str, codes: np.ndarray, bits: int, prefix: str) -> None:
    """Add nodes that compute the value `name`: these int8 codes, of any shape, from packed bytes.

    What they need is called `prefix`/...: see `free_prefix`.
    """
    offset = 1 << (bits - 1)
    shifted = codes.astype(np.int16) + offset
    if shifted.min(initial=0) < 0 or shifted.max(initial=0) >= 2 * offset:
        raise ValueError(f"a code of {name} does not fit {bits} bits")
    add_unsigned(graph, f"{prefix}/u", shifted.astype(np.uint8), bits)
    add_node(graph, "Cast", [f"{prefix}/u"], f"{prefix}/i", to=TensorProto.INT8)
    add_node(graph, "Sub", [f"{prefix}/i", shared_constant(graph, np.array(offset, np.int8))], name)


def add_unsigned(graph: GraphProto, name: str, codes: np.ndarray, bits: int) -> None:
    """Add nodes that compute the value `name`: these uint8 codes, of any shape, from packed bytes."""
    if bits == 8:
        add_constant(graph, name, codes)
        return
    whole, low = "", 0
    for width, plane in zip(PLANES[bits], pack(codes, bits), strict=True):
        part = f"{name}/{low}"
        _add_plane(graph, part, plane, codes.size, width, low)
        whole = add_node(graph, "Add", [whole, part], f"{part}/sum") if whole else part
        low += width
    add_node(graph, "Reshape", [whole, shared_constant(graph, np.array(codes.shape, np.int64))], name)


def _add_plane(graph: GraphProto, name: str, plane: np.ndarray, count: int, width: int, low: int) -> None:
    """Add nodes that compute `name`: `count` codes of `width` bits, uint8 `[count]`, each shifted left by `low`.

    A code is first shifted to the top of its byte, which cuts off those above it, then to the bottom, then into place.
    """
    per_byte = 8 // width
    value = f"{name}/packed"
    add_constant(graph, value, plane.reshape(-1, 1))
    to_top = [8 - width * (place + 1) for place in range(per_byte)]
    for step, direction, by in (("t", "LEFT", to_top), ("b", "RIGHT", 8 - width), ("p", "LEFT", low)):
        if by:
            distance = shared_constant(graph, np.array(by, np.uint8))
            value = add_node(graph, "BitShift", [value, distance], f"{name}/{step}", direction=direction)
    filled = count % per_byte != 0
    flattened = f"{name}/f" if filled else name
    add_node(graph, "Reshape", [value, shared_constant(graph, np.array([-1], np.int64))], flattened)
    if filled:
        bounds = [shared_constant(graph, np.array([bound], np.int64)) for bound in (0, count)]
        add_node(graph, "Slice", [flattened, *bounds], name)


def add_node(graph: GraphProto, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
    """Append a node named like its output; the output."""
    graph.node.append(helper.make_node(operator, inputs, [output], output, **attributes))
    return output


def shared_constant(graph: GraphProto, array: np.ndarray) -> str:
    """The name of a small constant, which is stored once however many nodes read it."""
    name = f"pare/{array.dtype}/{'x'.join(map(str, array.shape))}/{','.join(map(str, array.reshape(-1)))}"
    if all(tensor.name != name for tensor in graph.initializer):
        add_constant(graph, name, array)
    return name


def add_tensor(graph: GraphProto, matrix: str, name: str, layout: Layout, prefix: str) -> None:
    """Add nodes that compute `name`: a weight in its own shape and order of axes, from its matrix."""
    shape = shared_constant(graph, np.array(layout.shape, np.int64))
    value = add_node(graph, "Reshape", [matrix, shape], f"{prefix}/shaped" if layout.swapped else name)
    if layout.swapped:
        add_node(graph, "Transpose", [value], name, perm=layout.back)


def remove_initializers(graph: GraphProto, names: Collection[str]) -> None:
    """Remove the constants of these names."""
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def add_constant(graph: GraphProto, name: str, array: np.ndarray) -> None:
    """Append the array as an initializer called `name`."""
    graph.initializer.append(numpy_helper.from_array(array, name))
