"""Where the integer kernels round: read off the graph that a target makes of a plan, not decided a second time."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto

from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import quantized
from worker.engine.plan.clamps import CLAMPS, bounds_of
from worker.engine.plan.plan import StaticPlan
from worker.engine.plan.selection import WEIGHTED, channel_axis


@dataclass(frozen=True)
class PlacedLayer:
    """A convolution or matrix product with an 8-bit weight, in the float graph."""

    operator: str
    node: str
    inputs: str
    """The activation it reads."""
    weight: str
    output: str
    axis: int | None
    """Of the weight: numbers the output channels; None where no axis does."""


@dataclass(frozen=True)
class Placement:
    """The quantized tensors of a float graph, by their names in it."""

    scale_of: Mapping[str, str]
    """For each quantized activation the one whose scale it has: itself, or that whose values it holds in another
    order."""
    layers: tuple[PlacedLayer, ...]
    bounds: Mapping[str, tuple[float, float]]
    """Activations whose codes replace a clamp, with its bounds: beyond them there must be no code."""


def placement(plan: StaticPlan) -> Placement:
    """Lower the plan for x86, whose integer kernels take in the most operators, and see what became of each tensor."""
    graph = onnx.load(plan.graph).graph
    lowered = quantized(plan, PROFILES["x86"])
    scale_of = {activation.tensor: activation.scale_of for activation in lowered.activations}
    layers = _layers(graph, frozenset(plan.nodes))
    return Placement(scale_of, layers, _bounds(graph, lowered.model, scale_of))


def _layers(graph: GraphProto, chosen: frozenset[str]) -> tuple[PlacedLayer, ...]:
    return tuple(
        PlacedLayer(node.op_type, node.name, node.input[0], node.input[1], node.output[0], channel_axis(node, 2))
        for node in graph.node
        if node.name in chosen and node.op_type in WEIGHTED
    )


def _bounds(graph: GraphProto, lowered: ModelProto, scale_of: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    left = {node.name for node in lowered.graph.node}
    constants = {tensor.name: tensor for tensor in graph.initializer}

    return {
        node.output[0]: bounds
        for node in graph.node
        if node.op_type in CLAMPS
        and node.name not in left
        and node.output[0] in scale_of
        and (bounds := bounds_of(node, constants)) is not None
    }
