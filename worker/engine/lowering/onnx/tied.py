"""Weights that several layers read: one set of codes where one serves, and never the scales of another layer's axis."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from worker.engine.onnx_graph.file import graphs
from worker.engine.onnx_graph.names import free_name, taken_names
from worker.engine.onnx_graph.packed import shared_constant
from worker.engine.onnx_graph.topological import sort_nodes

Kind = Callable[[NodeProto, int], Hashable]
"""What a node wants of the constant at one of its places: nodes that want the same can share it."""


@dataclass(frozen=True)
class Codes:
    """A quantized matrix: the names of its constants, and the axis along which scales differ."""

    codes: str
    scale: str
    zero_point: str
    axis: int


def part_readers(graph: GraphProto, kind: Kind) -> dict[str, str]:
    """Give those who want something else of a weight than its first reader a copy; the weights by their copies' names.

    Scales of one axis do not serve the other: a tied autoencoder reads its weight along rows and along columns. Nodes
    of kind None do not count.
    """
    taken = taken_names(graph)
    copies: dict[tuple[str, Hashable], str] = {}
    made: dict[str, str] = {}
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) > 1}
    for node in graph.node:
        for place, name in enumerate(node.input):
            wanted = kind(node, place) if name in constants else None
            if wanted is None:
                continue
            if (name, wanted) not in copies:
                first = all(other != name for other, _ in copies)
                copies[name, wanted] = name if first else free_name(f"{name}/{node.name}", taken)
            own = node.input[place] = copies[name, wanted]
            if own != name and own not in made:
                made[own] = name
                copy = graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = own
    return made


def look_up_codes(graph: GraphProto, coded: Mapping[str, Codes]) -> None:
    """Have embeddings look up rows of codes that a matrix product has, too, and make floats of these rows alone.

    `coded` are the quantized matrices by the name of the float value that they stand for. A table may be such a matrix
    transposed, as where an embedding is tied to the last layer.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    taken = taken_names(graph)
    added: list[NodeProto] = []
    turned_codes: dict[str, str] = {}

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        added.append(helper.make_node(operator, inputs, [output], free_name(output, taken), **attributes))
        return output

    for node in list(graph.node):
        table, turned = node.input[0] if _looks_up_rows(node) else "", False
        if table in maker and _is_transposition(maker[table]):
            table, turned = maker[table].input[0], True
        held = coded.get(table)
        if held is None or numpy_helper.to_array(constants[held.zero_point]).any():
            continue
        codes, base = held.codes, node.output[0]
        if turned:
            if codes not in turned_codes:
                name = free_name(f"{codes}/transposed", taken)
                turned_codes[codes] = add("Transpose", [codes], name, perm=[1, 0])
            codes = turned_codes[codes]
        names = {part: free_name(f"{base}/{part}", taken) for part in ("codes", "floats", "scale", "scales")}
        rows = add("Gather", [codes, node.input[1]], names["codes"], axis=0)
        rows = add("Cast", [rows], names["floats"], to=TensorProto.FLOAT)
        scale = held.scale
        if np.prod(constants[scale].dims) > 1 and held.axis == int(turned):
            scale = add("Gather", [scale, node.input[1]], names["scale"], axis=0)
            last = shared_constant(graph, np.array([-1], np.int64))
            scale = add("Unsqueeze", [scale, last], names["scales"])
        graph.node.remove(node)
        add("Mul", [rows, scale], base)
    if added:
        graph.node.extend(added)
        remove_unread(graph)
        sort_nodes(graph)


def remove_unread(graph: GraphProto) -> None:
    """Remove transpositions, dequantizations and constants that nothing reads any more."""
    while True:
        read = {name for inner in graphs(graph) for node in inner.node for name in node.input}
        read |= {value.name for inner in graphs(graph) for value in inner.output}
        idle = [
            node
            for node in graph.node
            if node.op_type in ("DequantizeLinear", "Transpose") and read.isdisjoint(node.output)
        ]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _looks_up_rows(node: NodeProto) -> bool:
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    return node.op_type == "Gather" and node.domain in ("", "ai.onnx") and axis == 0


def _is_transposition(node: NodeProto) -> bool:
    order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), [1, 0])
    return node.op_type == "Transpose" and order == [1, 0]
