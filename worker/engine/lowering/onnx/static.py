"""A static plan as an ONNX graph with QuantizeLinear and DequantizeLinear, placed by ONNX Runtime's quantizer."""

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from worker.engine.lowering.onnx.biases import add_missing_biases, correct_biases
from worker.engine.lowering.onnx.floats import keep_floats
from worker.engine.lowering.onnx.grids import limit_codes, limit_weights, narrow_weights, overrides
from worker.engine.lowering.onnx.profiles import Profile
from worker.engine.lowering.onnx.quantized_graph import QuantizedGraph, quantized_graph
from worker.engine.onnx_graph.packed import store_packed
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import Range, StaticPlan


def lower_static(plan: StaticPlan, profile: Profile) -> ModelProto:
    """The quantized graph as a file. Raises `NothingToQuantize` if the profile quantizes none of the plan's nodes."""
    lowered = quantized(plan, profile)
    keep_floats(lowered, profile)
    store_packed(lowered.model, narrow_weights(lowered, plan.grids, profile))
    return lowered.model


def quantized(plan: StaticPlan, profile: Profile) -> QuantizedGraph:
    """The graph with every code and scale, before anything is rewritten for the sake of one runtime.

    Raises `NothingToQuantize`.
    """
    model = onnx.load(plan.graph)
    names = set(plan.nodes)
    nodes = [
        node
        for node in model.graph.node
        if node.name in names and (profile.operators is None or node.op_type in profile.operators)
    ]
    if not nodes:
        raise NothingToQuantize("The target quantizes none of the operators that the plan names.")
    add_missing_biases(model.graph, plan.input_means)
    quantizer = QDQQuantizer(
        model,
        plan.per_channel,
        profile.reduce_range,
        profile.weights,
        profile.activations,
        tensors_data(plan.ranges),
        [node.name for node in nodes],
        [],
        sorted({node.op_type for node in nodes}),
        {
            "ActivationSymmetric": profile.symmetric_activations,
            # An operator that only moves data keeps its input's scale instead of quantizing a float input anew.
            "ForceQuantizeNoInputCheck": False,
            "TensorQuantOverrides": overrides(plan.grids, model.graph, profile),
            **profile.options,
        },
    )
    lowered = quantized_graph(quantizer)
    limit_codes(lowered, plan.grids, profile)
    limit_weights(lowered, plan.grids)
    if plan.input_means:
        correct_biases(lowered.model.graph, onnx.load(plan.graph).graph, plan.input_means)
    return lowered


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
