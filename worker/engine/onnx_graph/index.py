"""Who makes and who reads each value of an ONNX graph, and changes of its constants."""

import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper

from worker.engine.onnx_graph.file import graphs


class GraphIndex:
    """A graph with its connections. Constants are changed through it; nodes stay where they are."""

    def __init__(self, graph: GraphProto) -> None:
        """Index the graph; values that control-flow nodes read from it count as read."""
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output if name}
        described = (*graph.value_info, *graph.input, *graph.output)
        self._shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in described
            if value.type.tensor_type.HasField("shape")
        }
        self._reads = Counter(name for inner in graphs(graph) for node in inner.node for name in node.input if name)
        self._reads.update(output.name for inner in graphs(graph) for output in inner.output)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)

    def readers(self, value: str) -> list[NodeProto] | None:
        """The nodes that read a value; None if it also leaves the graph or enters a control-flow node."""
        readers = self._readers.get(value, [])
        times = sum(name == value for node in readers for name in node.input)
        return readers if times == self._reads[value] else None

    def only_reader(self, value: str) -> NodeProto | None:
        """The node that is alone in reading a value, once."""
        readers = self.readers(value)
        return readers[0] if readers is not None and len(readers) == 1 and self._reads[value] == 1 else None

    def is_own(self, name: str) -> bool:
        """Whether this is a float32 constant that a single node reads."""
        return self._reads[name] == 1 and name in self.constants and self.is_float(name)

    def is_constant(self, name: str, data_type: int) -> bool:
        """Whether this is a constant of a type of `TensorProto`."""
        return name in self.constants and self.constants[name].data_type == data_type

    def is_float(self, name: str) -> bool:
        """Whether this is a float32 constant."""
        return self.is_constant(name, onnx.TensorProto.FLOAT)

    def is_vector(self, name: str) -> bool:
        """Whether this is a float32 constant with one axis."""
        return self.is_float(name) and len(self.constants[name].dims) == 1

    def unshared(self, node: NodeProto, place: int) -> str:
        """The name of an operand that the node alone reads: a constant that others read, too, is copied for it."""
        name = node.input[place]
        if self._reads[name] > 1:
            copy = self.graph.initializer.add()
            copy.CopyFrom(self.constants[name])
            copy.name = f"{name}/{node.name}"
            self._reads[name] -= 1
            self._reads[copy.name] = 1
            self.constants[copy.name] = copy
            node.input[place] = copy.name
        return node.input[place]

    def array(self, name: str) -> np.ndarray:
        """The values of the constant; KeyError for a value that is computed."""
        return numpy_helper.to_array(self.constants[name])

    def write(self, name: str, values: np.ndarray) -> None:
        """Replace a constant's values by others of the same type."""
        tensor = self.constants[name]
        tensor.CopyFrom(numpy_helper.from_array(values.astype(numpy_helper.to_array(tensor).dtype), name))

    def rename(self, value: str, name: str) -> None:
        """Give an inner value another name wherever it occurs.

        What was scaled is no longer the value the original has under that name, and must not be compared with it.
        """
        for node in self.graph.node:
            for names in (node.input, node.output):
                for place, old in enumerate(names):
                    if old == value:
                        names[place] = name
        for info in self.graph.value_info:
            if info.name == value:
                info.name = name

    def sizes(self, value: str) -> list[int]:
        """The sizes of a value's axes, 0 for one that varies; empty if they were not inferred."""
        return self._shapes.get(value, [])

    def rank(self, value: str) -> int | None:
        """The number of axes of a value, None if it was not inferred."""
        return len(self._shapes[value]) if value in self._shapes else None

    def positions(self, value: str, *, channels_last: bool) -> int:
        """How often a layer's weight is applied for one row, by the shape of its output; sizes that vary count as 1."""
        sizes = self._shapes.get(value, [])[1:]
        return math.prod(max(1, size) for size in (sizes[:-1] if channels_last else sizes[1:]))


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes that are given, by name."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def softmax_axis(node: NodeProto) -> int:
    """The axis of a Softmax or LogSoftmax; -1, the operator's own default, where none is given."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
