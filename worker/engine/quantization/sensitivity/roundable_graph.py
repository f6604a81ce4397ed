"""A float graph whose parts can be quantized one by one, as the targets would."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from worker.engine.lowering.onnx.biases import add_missing_biases, correct_biases
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.onnx_graph.topological import sort_nodes
from worker.engine.plan.activations import activations
from worker.engine.plan.clamps import clamped_by
from worker.engine.plan.plan import Grid, Range, StaticPlan
from worker.engine.plan.selection import WEIGHTED, channel_axis, quantizable
from worker.engine.quantization.sensitivity.rounding import grid_of, rounded
from worker.engine.quantization.sensitivity.sweep import FLOAT, Choice, QuantizableLayer

UNROUNDED = "/pare_float"
STEPS = 255
MOVERS = frozenset({"Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output has values of their input alone; ONNX Runtime's quantizer gives both one scale."""


@dataclass(frozen=True)
class NarrowInputs:
    """Activations of fewer than 8 bits: what layers with narrow weights read."""

    grids: Mapping[str, Grid]
    """By name, of every activation that a layer reads."""
    weights: int
    """Bits of the weights of such layers, at most."""
    wide: frozenset[str]
    """Layers that read 8 bits, whatever their weights."""


@dataclass(frozen=True)
class RoundableGraph:
    """A float graph, and how its values and weights are rounded where they are."""

    path: Path
    ranges: Mapping[str, Range]
    """Of every activation that may be quantized, by name."""
    skipped: frozenset[str]
    """Nodes that stay in floating point whatever is chosen."""
    per_channel: bool
    input_means: Mapping[str, np.ndarray] = field(default_factory=dict)
    """As in the plan: a bias is corrected for the weight that is rounded."""
    inputs: NarrowInputs | None = None
    """None: every activation has 8 bits."""

    @classmethod
    def of(cls, plan: StaticPlan) -> "RoundableGraph":
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
    def layers(self) -> tuple[QuantizableLayer, ...]:
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
        return self._with_bits(self.values_of(self.nodes_without(floating)), choice)

    def values_at(self, layer: QuantizableLayer, bits: int) -> dict[str, int]:
        """The activations that are rounded where this layer alone has these bits, with their own bits."""
        return {} if bits == FLOAT else self._with_bits(self.values_of([layer.name]), {layer: bits})

    def narrow_values(self, choice: Choice) -> dict[str, Grid]:
        """The grids of all activations of fewer than 8 bits, those included that only move others' values."""
        if self.inputs is None:
            return {}
        read, roots = self._read_narrow(choice), {name: self._root(name) for name in self.ranges}
        return {name: self.inputs.grids[root] for name, root in roots.items() if root in read}

    def _with_bits(self, values: Collection[str], choice: Choice) -> dict[str, int]:
        """8, or as few as a layer wants that reads the value."""
        read = self._read_narrow(choice)
        grids = {} if self.inputs is None else self.inputs.grids
        return {name: grids[name].bits if name in read else 8 for name in values}

    def _read_narrow(self, choice: Choice) -> frozenset[str]:
        """What layers with narrow weights read."""
        if self.inputs is None:
            return frozenset()
        narrow = {layer.name for layer, bits in choice.items() if bits <= self.inputs.weights} - self.inputs.wide
        return frozenset(self._root(node.input[0]) for node in self.model.graph.node if node.name in narrow)

    def _grid(self, value: str, bits: int) -> Grid:
        """How an activation is rounded."""
        if bits < 8 and self.inputs is not None:
            return self.inputs.grids[value]
        seen = self.ranges[value]
        scale = float(np.float32((seen.high - seen.low) / STEPS))
        zero = int(np.clip(np.rint(-seen.low / scale), 0, STEPS)) if scale > np.finfo(np.float32).tiny else 0
        return Grid((scale,), 0, STEPS, zero)

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

    def grid(self, layer: QuantizableLayer, bits: int) -> Grid:
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
        for value, bits in values.items():
            _round_value(model.graph, value, self._grid(value, bits))
        sort_nodes(model.graph)
        return save(model, path)[0]


def _layer(index: GraphIndex, node: NodeProto) -> QuantizableLayer:
    weight = index.array(node.input[1])
    positions = index.positions(node.output[0], channels_last=not node.op_type.startswith("Conv"))
    return QuantizableLayer(node.name, node.op_type, node.input[1], weight.size, weight.size * positions)


def _round_value(graph: GraphProto, value: str, grid: Grid) -> None:
    """Put QuantizeLinear and DequantizeLinear behind a value, for all that read it."""
    scale = np.float32(grid.scales[0])
    if not scale > np.finfo(np.float32).tiny:
        return  # it is always 0
    names = {name: f"{value}/pare_{name}" for name in ("scale", "zero", "low", "high", "codes", "cut")}
    constants = {"scale": scale, "zero": np.uint8(grid.zero_point)}
    source, result = f"{value}{UNROUNDED}", value
    if any(entry.name == value for entry in graph.input):
        source, result = value, f"{value}/pare_rounded"
        _replace(graph, value, result, outputs=False)
    else:
        _replace(graph, value, source, outputs=True)
    if grid.high < STEPS:  # QuantizeLinear ends at 8 bits
        ends = grid.range()
        constants |= {"low": np.float32(ends.low), "high": np.float32(ends.high)}
        graph.node.append(helper.make_node("Clip", [source, names["low"], names["high"]], [names["cut"]], names["cut"]))
        source = names["cut"]
    graph.initializer.extend(numpy_helper.from_array(np.array(array), names[name]) for name, array in constants.items())
    parameters, codes = [names["scale"], names["zero"]], names["codes"]
    graph.node.append(helper.make_node("QuantizeLinear", [source, *parameters], [codes], codes))
    graph.node.append(helper.make_node("DequantizeLinear", [codes, *parameters], [result], f"{codes}/back"))


def _replace(graph: GraphProto, old: str, new: str, *, outputs: bool) -> None:
    """Rename a value where it is made (`outputs`) or where it is read."""
    for node in graph.node:
        names = node.output if outputs else node.input
        for place, name in enumerate(names):
            if name == old:
                names[place] = new
