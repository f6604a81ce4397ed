"""A static plan as an ONNX graph with QuantizeLinear and DequantizeLinear, placed by ONNX Runtime's quantizer."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from worker.engine.lowering.onnx.biases import OpenBias, add_missing_biases, correct_biases, open_biases
from worker.engine.lowering.onnx.clamps import kept_clamps
from worker.engine.lowering.onnx.floats import keep_floats
from worker.engine.lowering.onnx.grids import limit_codes, limit_weights, narrow_weights, overrides
from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.lowering.onnx.quantized_graph import QuantizedGraph, quantized_graph
from worker.engine.lowering.onnx.quantizer_names import make_room
from worker.engine.lowering.onnx.tied import Codes, Kind, look_up_codes, part_readers
from worker.engine.onnx_graph.index import attributes
from worker.engine.onnx_graph.packed import store_packed
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import Grid, Range, StaticPlan
from worker.engine.plan.selection import WEIGHTED, channel_axis


def lower_static(plan: StaticPlan, profile: Profile) -> ModelProto:
    """The quantized graph as a file. Raises `NothingToQuantize` if the profile quantizes none of the plan's nodes."""
    lowered = quantized(plan, profile)
    keep_floats(lowered, profile)
    if not profile.symmetric_activations:
        look_up_codes(lowered.model.graph, _coded(lowered.model.graph))
    store_packed(lowered.model, narrow_weights(lowered, plan.grids, profile))
    return lowered.model


def quantized(plan: StaticPlan, profile: Profile) -> QuantizedGraph:
    """The graph with every code and scale, before anything is rewritten for the sake of one runtime.

    Raises `NothingToQuantize`.
    """
    lowered = _placed(plan, profile)
    if plan.input_means:
        correct_biases(lowered.model.graph, onnx.load(plan.graph).graph, plan.input_means)
    return lowered


def with_open_biases(plan: StaticPlan, profile: Profile) -> tuple[ModelProto, dict[str, OpenBias]]:
    """The graph with its biases as inputs, and those by layer that would be corrected. Raises `NothingToQuantize`."""
    model = _placed(plan, profile).model
    return model, open_biases(model.graph, onnx.load(plan.graph).graph, plan.input_means)


def _placed(plan: StaticPlan, profile: Profile) -> QuantizedGraph:
    """The graph with codes and scales, and the biases as they were. Raises `NothingToQuantize`."""
    model = onnx.load(plan.graph)
    nodes = _nodes(plan, model.graph, profile)
    add_missing_biases(model.graph, plan.input_means)
    copies = part_readers(model.graph, _kinds({node.name for node in nodes}, plan.grids))
    grids = {**plan.grids, **{copy: plan.grids[name] for copy, name in copies.items() if name in plan.grids}}
    meanwhile = make_room(model.graph)
    named = {meanwhile.get(name, name): grid for name, grid in grids.items()}
    quantizer = QDQQuantizer(
        model,
        plan.per_channel,
        profile.reduce_range,
        profile.weights,
        profile.activations,
        tensors_data({meanwhile.get(name, name): seen for name, seen in plan.ranges.items()}),
        [node.name for node in nodes],
        [],
        sorted({node.op_type for node in nodes}),
        {
            "ActivationSymmetric": profile.symmetric_activations,
            # An operator that only moves data keeps its input's scale instead of quantizing a float input anew.
            "ForceQuantizeNoInputCheck": False,
            "TensorQuantOverrides": {
                **_whole_weights(nodes, profile),
                **overrides(named, model.graph, profile),
            },
            **profile.options,
        },
    )
    lowered = quantized_graph(quantizer, meanwhile)
    limit_codes(lowered, grids, profile)
    limit_weights(lowered, grids)
    return lowered


def _coded(graph: GraphProto) -> dict[str, Codes]:
    """The quantized matrices, by their float values."""
    dims = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    return {
        node.output[0]: Codes(node.input[0], node.input[1], node.input[2], attributes(node).get("axis", 1) % 2)
        for node in graph.node
        if node.op_type == "DequantizeLinear" and dims.get(node.input[0]) == 2 and len(node.input) == 3
    }


def _nodes(plan: StaticPlan, graph: GraphProto, profile: Profile) -> list[NodeProto]:
    """Those that the quantizer is to quantize. Raises `NothingToQuantize`."""
    names = set(plan.nodes) - kept_clamps(graph, {name: _with_width(seen) for name, seen in plan.ranges.items()})
    nodes = [
        node
        for node in graph.node
        if node.name in names and (profile.operators is None or node.op_type in profile.operators)
    ]
    if not nodes:
        raise NothingToQuantize("The target quantizes none of the operators that the plan names.")
    return nodes


def _kinds(chosen: Collection[str], grids: Mapping[str, Grid]) -> Kind:
    """Layers want scales along an axis of their weight, others floats; rows are looked up in whatever codes there are.

    A weight that training gave one scale serves all layers.
    """

    def kind(node: NodeProto, place: int) -> Hashable:
        if node.op_type in ("Gather", "Transpose"):
            return None
        if node.name not in chosen or node.op_type not in WEIGHTED or place != 1:
            return "floats"
        grid = grids.get(node.input[1])
        return channel_axis(node, 2) if grid is None or grid.axis is not None else "one scale"

    return kind


def _whole_weights(nodes: Iterable[NodeProto], profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """The quantizer's overrides for weights that get one scale, since scales cannot follow their outputs."""
    return {
        node.input[1]: [{"quant_type": profile.weights}]
        for node in nodes
        if node.op_type in WEIGHTED and channel_axis(node, 2) is None
    }


def tensors_data(ranges: dict[str, Range]) -> TensorsData:
    """Ranges as the quantizer takes them: float32, made anew each time because it changes them."""
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(used.low), highest=np.float32(used.high))
            for name, seen in ranges.items()
            for used in [_with_width(seen)]
        },
    )


def _with_width(seen: Range) -> Range:
    """A range the quantizer can divide by.

    For a tensor that was always 0 it would choose scale 1 and zero-point 0. With int8 that makes the codes of
    negative numbers valid where a ReLU was replaced by saturation at the zero-point.
    """
    return seen if seen.high - seen.low > np.finfo(np.float32).tiny else Range(0.0, 1.0)
