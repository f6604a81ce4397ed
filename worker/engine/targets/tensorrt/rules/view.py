"""A graph as the rules see it: constants, types and shapes by value name, and which values are weights."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from worker.engine.onnx_graph.types import Shape, inferred
from worker.engine.plan.selection import weight_of
from worker.engine.targets.tensorrt.releases import Release

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Violation:
    """One rule, broken in one place."""

    detail: str
    remedy: str


@dataclass(frozen=True)
class View:
    """One graph of a model; what inner graphs see of the outer ones is included."""

    model: ModelProto
    release: Release
    graph: GraphProto
    constants: dict[str, TensorProto]
    known: frozenset[str]
    """Values that are constants, or computed from nothing else."""
    types: dict[str, int]
    shapes: dict[str, Shape]
    readers: dict[str, list[NodeProto]]

    def array(self, name: str) -> np.ndarray | None:
        """The value of a constant; None for any other."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_weight(self, name: str) -> bool:
        """Whether a value is the weight of a weighted operator, or what it is dequantized or quantized from."""
        for reader in self.readers.get(name, ()):
            if weight_of(reader) == name or (reader.op_type in QDQ and self.is_weight(reader.output[0])):
                return True
        return False

    def weighted(self, name: str) -> NodeProto | None:
        """The operator whose weight a dequantized value is."""
        return next((reader for reader in self.readers.get(name, ()) if weight_of(reader) == name), None)


def views(model: ModelProto, release: Release) -> Iterator[View]:
    """Each graph of a model, the outermost first."""
    types, shapes = inferred(model)
    yield from _views(model, release, model.graph, {}, frozenset(), types, shapes)


def _views(
    model: ModelProto,
    release: Release,
    graph: GraphProto,
    outer: dict[str, TensorProto],
    known: frozenset[str],
    types: dict[str, int],
    shapes: dict[str, Shape],
) -> Iterator[View]:
    constants = outer | {tensor.name: tensor for tensor in graph.initializer}
    computed = {*known, *constants}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
        if node.op_type == "Constant":
            constants |= _constant(node)
        if all(name in computed for name in node.input if name) and not node.op_type.startswith("Random"):
            computed.update(node.output)
    known = frozenset(computed)
    yield View(model, release, graph, constants, known, types, shapes, dict(readers))
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _views(model, release, inner, constants, known, types, shapes)


def _constant(node: NodeProto) -> dict[str, TensorProto]:
    """What a Constant node holds, if it is numbers."""
    for name, value in attributes(node).items():
        if name == "value":
            return {node.output[0]: value}
        if name.startswith("value_") and "string" not in name:
            kind = np.int64 if "int" in name else np.float32
            return {node.output[0]: numpy_helper.from_array(np.array(value, kind))}
    return {}


def attributes(node: NodeProto) -> dict[str, Any]:
    """By name, as Python values; strings decoded."""
    values = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def called(node: NodeProto) -> str:
    """How a node is named in a message."""
    return f"Node {node.name} ({node.op_type})" if node.name else f"The {node.op_type} that makes {node.output[0]}"
