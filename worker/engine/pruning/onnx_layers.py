"""Layers of an ONNX graph, and of the branches and loops in it, whose weight is one float32 tensor of the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from worker.engine.pruning.weighted_layers import MATRIX_AXES, Layout, Permutation, WeightedLayer

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
CONVOLUTIONS: Mapping[str, Layout] = {
    "Conv": "convolution",
    "FusedConv": "convolution",
    "ConvTranspose": "transposed_convolution",
}
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
INDICES_PASS = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Transpose", "Flatten"})
"""What ids may pass on their way from an input into an embedding."""


@dataclass(frozen=True)
class OnnxWeights:
    """The float32 tensors that a file holds, as initializers or in Constant nodes, and the layers that read them."""

    tensors: dict[str, TensorProto] = field(default_factory=dict)
    """By name; of names that several graphs in the file use, the later ones after their path."""
    layers: dict[str, WeightedLayer] = field(default_factory=dict)
    """By the name of the tensor; a shared one belongs to the first of its layers."""

    def values(self) -> dict[str, Tensor]:
        """Copies of the tensors."""
        return {name: torch.from_numpy(numpy_helper.to_array(proto).copy()) for name, proto in self.tensors.items()}

    def replace(self, values: Mapping[str, Tensor]) -> None:
        """Put other values into the file's tensors."""
        for name, tensor in values.items():
            proto = self.tensors[name]
            proto.CopyFrom(numpy_helper.from_array(tensor.contiguous().numpy(), proto.name))


def onnx_weights(graph: GraphProto) -> OnnxWeights:
    """What a graph holds. The tensors are those of `graph` itself: to replace them is to change it."""
    weights = OnnxWeights()
    _Scope(graph, weights).visit()
    return weights


@dataclass(frozen=True)
class _Reading:
    """A tensor of the file as a node reads it: its dimensions may come in another order."""

    tensor: str
    permutation: Permutation


class _Scope:
    """A graph, within those that it lies in."""

    def __init__(self, graph: GraphProto, weights: OnnxWeights, outer: "_Scope | None" = None, path: str = "") -> None:
        self._graph, self._weights, self._outer, self._path = graph, weights, outer, path
        self._made = {name: node for node in graph.node for name in node.output}
        self._held: dict[str, _Reading] = {}
        self._inputs = {value.name for value in graph.input}

    def visit(self) -> None:
        """Collect tensors and layers, in the order of the graph."""
        for tensor in self._graph.initializer:
            self._hold(tensor.name, tensor)
        for node in self._graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._hold(node.output[0], node.attribute[0].t)
        for number, node in enumerate(self._graph.node):
            for layer in self._layers_of(node):
                self._weights.layers.setdefault(layer.parameter, layer)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    path = f"{self._path}{node.name or number}/{attribute.name}/"
                    _Scope(attribute.g, self._weights, self, path).visit()

    def _hold(self, name: str, tensor: TensorProto) -> None:
        if tensor.data_type != TensorProto.FLOAT:
            return
        key = name if name not in self._weights.tensors else f"{self._path}{name}"
        self._weights.tensors[key] = tensor
        self._held[name] = _Reading(key, tuple(range(len(tensor.dims))))

    def _layers_of(self, node: NodeProto) -> Iterator[WeightedLayer]:
        if node.domain not in DOMAINS:
            return
        given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type in CONVOLUTIONS:
            yield from self._layer(node, 1, CONVOLUTIONS[node.op_type], MATRIX_AXES + 1, given.get("group", 1))
        elif node.op_type in {"Gemm", "FusedMatMul", "FusedGemm"}:
            yield from self._layer(node, 1, "linear" if given.get("transB", 0) else "matrix", MATRIX_AXES)
        elif node.op_type == "MatMul":
            yield from self._layer(node, 1, "matrix", MATRIX_AXES)
            yield from self._layer(node, 0, "linear", MATRIX_AXES)  # a weight times activations
        elif node.op_type in RECURRENT:
            yield from self._layer(node, 1, "linear", MATRIX_AXES)
            yield from self._layer(node, 2, "linear", MATRIX_AXES)
        elif node.op_type == "Gather" and not given.get("axis", 0) and self._from_input(node.input[1]):
            yield from self._layer(node, 0, "linear", MATRIX_AXES, most_axes=MATRIX_AXES)

    def _layer(
        self, node: NodeProto, place: int, layout: Layout, axes: int, groups: int = 1, most_axes: int | None = None
    ) -> Iterator[WeightedLayer]:
        reading = self._reading(node.input[place]) if place < len(node.input) else None
        if reading is None or not axes <= len(reading.permutation) <= (most_axes or len(reading.permutation)):
            return
        whole = reading.permutation == tuple(range(len(reading.permutation)))
        name = reading.tensor
        yield WeightedLayer(
            name.removesuffix(".weight"), name, None, layout, groups, None if whole else reading.permutation
        )

    def _reading(self, name: str) -> _Reading | None:
        """The tensor that a value is, behind any number of Identity, Cast and Transpose; None if it is computed."""
        if name in self._held:
            return self._held[name]
        node = self._made.get(name)
        if node is None:
            return None if self._outer is None or name in self._inputs else self._outer._reading(name)  # noqa: SLF001
        if node.op_type not in {"Identity", "Cast", "Transpose"}:
            return None
        reading = self._reading(node.input[0])
        if reading is None or node.op_type != "Transpose":
            return reading
        order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
        axes = range(len(reading.permutation))[::-1] if order is None else order
        return _Reading(reading.tensor, tuple(reading.permutation[axis] for axis in axes))

    def _from_input(self, name: str) -> bool:
        """Whether a value is an input of the model: words' ids are, the places of anchors in a table are not."""
        node = self._made.get(name)
        if node is not None:
            return node.op_type in INDICES_PASS and self._from_input(node.input[0])
        if self._outer is not None:
            return self._outer._from_input(name)  # noqa: SLF001  # the same class
        return name in self._inputs and name not in {tensor.name for tensor in self._graph.initializer}
