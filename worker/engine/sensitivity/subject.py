"""A float graph whose parts can be quantized one by one, as the targets would."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from worker.engine.activations import activations, clamped_by
from worker.engine.onnx_file import save
from worker.engine.plan import Grid, Range, StaticPlan
from worker.engine.rescaling.index import GraphIndex, attributes
from worker.engine.selection import WEIGHTED, quantizable
from worker.engine.sensitivity.rounding import grid_of, rounded
from worker.engine.sensitivity.sweep import FLOAT, Choice, Layer
from worker.engine.targets.onnx_biases import add_missing_biases, correct_biases
from worker.engine.targets.topological import sort_nodes

UNROUNDED = "/pare_float"
STEPS = 255
MOVERS = frozenset({"Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output has values of their input alone; ONNX Runtime's quantizer gives both one scale."""


@dataclass(frozen=True)
class Subject:
    """A float graph, and how its values and weights are rounded where they are."""

    path: Path
    ranges: Mapping[str, Range]
    """Of every activation that may be quantized, by name."""
    skipped: frozenset[str]
    """Nodes that stay in floating point whatever is chosen."""
    per_channel: bool
    input_means: Mapping[str, np.ndarray] = field(default_factory=dict)
    """As in the plan: a bias is corrected for the weight that is rounded."""

    @classmethod
    def of(cls, plan: StaticPlan) -> "Subject":
        """The graph of a plan; what the plan leaves in floating point stays there."""
        graph = onnx.load(plan.graph, load_external_data=False).graph
        left = frozenset(node.name for node in graph.node) - frozenset(plan.nodes)
        return cls(plan.graph, plan.ranges, left, plan.per_channel, plan.input_means)

    @cached_property
    def model(self) -> ModelProto:
        """The graph with its weights."""
        model = onnx.load(self.path)
        add_missing_biases(model.graph, self.input_means)
        return model

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What may become integer, in graph order."""
        chosen, index = frozenset(self.nodes_without(())), GraphIndex(self.model.graph)
        return tuple(
            _layer(index, node) for node in self.model.graph.node if node.name in chosen and node.op_type in WEIGHTED
        )

    def nodes_without(self, floating: Collection[str]) -> tuple[str, ...]:
        """The nodes to quantize where these layers stay in floating point, too."""
        return quantizable(self.model.graph, self.skipped | frozenset(floating))

    def values_in(self, choice: Choice) -> dict[str, int]:
        """The activations that are rounded where the layers have these bits, with their own bits."""
        floating = [layer.name for layer, bits in choice.items() if bits == FLOAT]
        return dict.fromkeys(self.values_of(self.nodes_without(floating)), 8)

    def values_at(self, layer: Layer, bits: int) -> dict[str, int]:
        """The activations that are rounded where this layer alone has these bits, with their own bits."""
        return {} if bits == FLOAT else dict.fromkeys(self.values_of([layer.name]), 8)

    def values_of(self, nodes: Collection[str]) -> tuple[str, ...]:
        """The activations that are rounded where these nodes are integer.

        What a clamp reads is one with what it makes; what a node only moves about is one with where it came from,
        whose scale it keeps: rounding it again changes nothing.
        """
        touched = activations(self.model.graph, frozenset(nodes))
        return tuple(dict.fromkeys(root for root in map(self._root, touched) if root in self.ranges))

    def _root(self, name: str) -> str:
        name = self._clamped.get(name, name)
        return self._root(self._moved[name]) if name in self._moved else name

    @cached_property
    def _clamped(self) -> dict[str, str]:
        return clamped_by(self.model.graph, frozenset(self.nodes_without(())))

    @cached_property
    def _moved(self) -> dict[str, str]:
        chosen = frozenset(self.nodes_without(()))
        movers = (node for node in self.model.graph.node if node.op_type in MOVERS and node.name in chosen)
        return {output: node.input[0] for node in movers for output in node.output}

    def grid(self, layer: Layer, bits: int) -> Grid:
        """How the layer's weight is rounded."""
        node = next(node for node in self.model.graph.node if node.name == layer.name)
        weight = GraphIndex(self.model.graph).array(layer.weight)
        return grid_of(weight, bits, channel_axis(node, weight.ndim) if self.per_channel else None)

    def rounding(self, weights: Choice, values: Mapping[str, int], path: Path) -> Path:
        """Write the graph with these layers' weights and these activations rounded to so many bits."""
        model = ModelProto()
        model.CopyFrom(self.model)
        index = GraphIndex(model.graph)
        for layer, bits in weights.items():
            node = next(node for node in model.graph.node if node.name == layer.name)
            grid = self.grid(layer, bits)
            name = index.unshared(node, 1)
            index.write(name, rounded(index.array(name), grid))
        names = {layer.name for layer in weights}
        means = {name: mean for name, mean in self.input_means.items() if name in names}
        correct_biases(model.graph, self.model.graph, means)
        for value in values:
            _round_value(model.graph, value, self.ranges[value])
        sort_nodes(model.graph)
        return save(model, path)[0]


def channel_axis(node: NodeProto, axes: int) -> int:
    """The axis of a layer's weight that counts its outputs, as ONNX Runtime's quantizer takes it."""
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if attributes(node).get("transB", 0) else 1
        case _:
            return axes - 1


def _layer(index: GraphIndex, node: NodeProto) -> Layer:
    weight = index.array(node.input[1])
    positions = index.positions(node.output[0], channels_last=not node.op_type.startswith("Conv"))
    return Layer(node.name, node.op_type, node.input[1], weight.size, weight.size * positions)


def _round_value(graph: GraphProto, value: str, seen: Range) -> None:
    """Put QuantizeLinear and DequantizeLinear behind a value, for all that read it."""
    scale = np.float32((seen.high - seen.low) / STEPS)
    if not scale > np.finfo(np.float32).tiny:
        return  # it is always 0
    zero = np.uint8(np.clip(np.rint(-seen.low / scale), 0, STEPS))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(scale), f"{value}/pare_scale"),
            numpy_helper.from_array(np.array(zero), f"{value}/pare_zero"),
        ]
    )
    parameters = [f"{value}/pare_scale", f"{value}/pare_zero"]
    source, result = f"{value}{UNROUNDED}", value
    if any(entry.name == value for entry in graph.input):
        source, result = value, f"{value}/pare_rounded"
        _replace(graph, value, result, outputs=False)
    else:
        _replace(graph, value, source, outputs=True)
    codes = f"{value}/pare_codes"
    graph.node.append(helper.make_node("QuantizeLinear", [source, *parameters], [codes], codes))
    graph.node.append(helper.make_node("DequantizeLinear", [codes, *parameters], [result], f"{codes}/back"))


def _replace(graph: GraphProto, old: str, new: str, *, outputs: bool) -> None:
    """Rename a value where it is made (`outputs`) or where it is read."""
    for node in graph.node:
        names = node.output if outputs else node.input
        for place, name in enumerate(names):
            if name == old:
                names[place] = new
