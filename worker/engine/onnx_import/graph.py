"""An ONNX graph as plain data: what the importer folds, rewrites and runs."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, numpy_helper

STANDARD = ("", "ai.onnx")
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One call of an operator."""

    op: str
    """Its type, with the domain in front unless it is the standard one: "Conv", "com.microsoft.Gelu"."""
    version: int
    """Of the operator set that the file imports for its domain."""
    name: str
    inputs: tuple[str, ...]
    """Values it reads; "" where an optional one is left out."""
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)
    """Numbers, strings, arrays, lists of them; a body is a `Graph`."""

    @property
    def place(self) -> str:
        """For a sentence about it."""
        return f"{self.op} '{self.name or next(filter(None, self.outputs), '')}'"

    def bodies(self) -> Iterator["Graph"]:
        """The graphs inside of a control-flow node."""
        for value in self.attributes.values():
            if isinstance(value, Graph):
                yield value


@dataclass
class Graph:
    """Nodes in topological order. Bodies of control flow read the values of the graph around them."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    """Initializers by name, `Constant` nodes among them."""

    def walk(self) -> Iterator["Graph"]:
        """Yield this graph and every body inside of it."""
        yield self
        for node in self.nodes:
            for body in node.bodies():
                yield from body.walk()

    def reads(self) -> Counter[str]:
        """How often each value is read, as an input of a node or as an output of a graph."""
        counts: Counter[str] = Counter()
        for graph in self.walk():
            counts.update(name for node in graph.nodes for name in node.inputs if name)
            counts.update(graph.outputs)
        return counts

    def rename_reads(self, names: dict[str, str]) -> None:
        """Let whoever reads a key of `names` read its value instead."""
        for graph in self.walk():
            graph.outputs = [names.get(name, name) for name in graph.outputs]
            graph.nodes = [
                replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in graph.nodes
            ]

    def drop_unread(self) -> None:
        """Remove nodes and constants on which no output depends."""
        while True:
            reads = self.reads()
            before = len(self.nodes)
            self.nodes = [node for node in self.nodes if any(reads[name] for name in node.outputs)]
            if len(self.nodes) == before:
                break
        for graph in self.walk():
            graph.constants = {name: array for name, array in graph.constants.items() if reads[name]}


def read_graph(model: ModelProto) -> Graph:
    """The graph of a model without local functions, its tensors loaded; `model` may be dropped afterwards."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    versions.setdefault("", versions.get("ai.onnx", 1))
    return _graph(model.graph, versions)


def _graph(graph: GraphProto, versions: dict[str, int]) -> Graph:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = _dense(sparse)
    nodes = []
    for proto in graph.node:
        node = _node(proto, versions)
        if node.op == "Constant":
            constants[node.outputs[0]] = _constant(node.attributes)
        else:
            nodes.append(node)
    inputs = [value.name for value in graph.input if value.name not in constants]
    return Graph(inputs, [value.name for value in graph.output], nodes, constants)


def _node(node: NodeProto, versions: dict[str, int]) -> Node:
    domain = "" if node.domain in STANDARD else node.domain
    return Node(
        f"{domain}.{node.op_type}" if domain else node.op_type,
        versions.get(domain, 1),
        node.name,
        tuple(node.input),
        tuple(node.output),
        {attribute.name: _value(attribute, versions) for attribute in node.attribute},
    )


def _value(attribute: AttributeProto, versions: dict[str, int]) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.GRAPH:
        return _graph(value, versions)
    reader = READERS.get(attribute.type)
    return value if reader is None else reader(value)


def _text(text: bytes) -> str:
    return text.decode(errors="replace")


def _constant(attributes: Attributes) -> np.ndarray:
    """The value of a `Constant` node, whose attributes say it in one of eight ways."""
    ((kind, value),) = attributes.items()
    if kind in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    if kind in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    return np.array(value, object) if kind.startswith("value_string") else np.asarray(value)


def _dense(sparse: SparseTensorProto) -> np.ndarray:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
    dense.reshape(-1)[places] = values
    return dense


READERS: dict[int, Callable[[Any], Any]] = {
    AttributeProto.FLOATS: list,
    AttributeProto.INTS: list,
    AttributeProto.SPARSE_TENSOR: _dense,
    AttributeProto.STRING: _text,
    AttributeProto.STRINGS: lambda texts: [_text(text) for text in texts],
    AttributeProto.TENSOR: numpy_helper.to_array,
    AttributeProto.TENSORS: lambda tensors: [numpy_helper.to_array(tensor) for tensor in tensors],
}
"""What attributes become that are not plain numbers, by their type."""
