"""quantize.static: measure the range of every activation that a target may quantize."""

from dataclasses import replace

import onnx
from onnx import GraphProto, TensorProto

from app.spec.quantize import QuantizeStatic
from worker.engine.bias_means import input_means
from worker.engine.calibration import measure_ranges
from worker.engine.errors import NothingToQuantize
from worker.engine.model import Model, new_folder
from worker.engine.passes import Changed, Context, implements
from worker.engine.plan import Range, StaticPlan
from worker.engine.rescaling.rewrite import rescale
from worker.engine.selection import CLAMPS, quantizable, require_float32_weights, skipped_nodes


@implements(QuantizeStatic)
def quantize_static(step: QuantizeStatic, model: Model, context: Context) -> Changed:
    """Attach a `StaticPlan` to the model.

    Raises `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`.
    """
    graph = onnx.load(model.prepared, load_external_data=False).graph
    original = onnx.load(model.graph, load_external_data=False).graph
    skipped = skipped_nodes(step.skip, original, graph)
    nodes = quantizable(graph, skipped)
    if not nodes:
        require_float32_weights(original)
        raise NothingToQuantize("No convolution or matrix product with a constant float32 weight is left.")

    rows = context.data["calibration"].sample(step.samples, context.seed)
    rescaled = rescale(model.prepared, step, rows, context, new_folder(model.folder))
    graph = onnx.load(rescaled.graph, load_external_data=False).graph
    tensors = activations(graph, frozenset(nodes))
    clamped = clamped_by(graph, frozenset(nodes))
    watched = tuple(name for name in tensors if name not in clamped)
    ranges = measure_ranges(rescaled.graph, watched, rows, step, context)
    ranges |= {before: ranges[after] for before, after in clamped.items() if after in ranges}
    means = input_means(rescaled.graph, nodes, rows, context) if step.bias_correction else {}

    plan = StaticPlan(rescaled.graph, ranges, step.observer, len(rows), nodes, step.per_channel, input_means=means)
    return Changed(
        replace(model, plan=plan),
        f"Measured the ranges of {len(watched)} tensors on {len(rows)} rows ({step.observer}); "
        f"{len(nodes)} of {len(graph.node)} operators can be quantized.",
        {
            "observer": step.observer,
            "samples": len(rows),
            "tensors": len(watched),
            "constant_tensors": sum(one == Range(0, 0) for one in ranges.values()),
            "quantized_nodes": len(nodes),
            "skipped_nodes": len(skipped),
            "nodes": len(graph.node),
            **rescaled.facts,
            **({"corrected_biases": len(means)} if step.bias_correction else {}),
        },
    )


def activations(graph: GraphProto, nodes: frozenset[str]) -> tuple[str, ...]:
    """The float32 values that go into or come out of these nodes, constants left out."""
    constants = {tensor.name for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    touched = (name for node in graph.node if node.name in nodes for name in (*node.input, *node.output))
    return tuple(
        dict.fromkeys(name for name in touched if types.get(name) == TensorProto.FLOAT and name not in constants)
    )


def clamped_by(graph: GraphProto, nodes: frozenset[str]) -> dict[str, str]:
    """Values that only a quantized ReLU or Clip reads, with its output, whose range they take.

    The quantizer does the same (`adjust_tensor_ranges`), since saturation replaces the clamp. Not watching them lets
    the runtime fuse the clamp into the convolution while it calibrates.
    """
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    outputs = {output.name for output in graph.output}
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type in CLAMPS
        and node.name in nodes
        and len(readers[node.input[0]]) == 1
        and node.input[0] not in outputs
    }
