"""Where the error comes from: signal to noise at every layer that both models still have.

Quantizers keep the names of values, so a layer is found in both graphs by the name of its output. Where the
delivered graph dequantizes that value again, the dequantized value is compared: it is what the next layer sees.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnx

from app.spec.report import LayerError
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.parity import Likeness
from worker.engine.measure.running import Run, paired, runner
from worker.engine.onnx_graph.sessions import computes_in_float16, session

LAYER_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
ROWS = 64
ROWS_AT_ONCE = 4
VALUES_AT_ONCE = 16
"""Intermediate values kept at the same time: bounds memory, at the price of loading both models once per group."""
MOST_LAYERS = 200
FEW = 0.5
"""Below this share of the original's layers found again, the report says so."""
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

Advance = Callable[[float], None]


@dataclass(frozen=True)
class ComparedLayer:
    """One layer in both graphs."""

    name: str
    operator: str
    before: str
    """Name of its output in the original."""
    after: str
    """Name of the same value in the delivered graph."""


def measure_layers(
    baseline: Path, artifact: Path, rows: AnyRows, batch: BatchRange, threads: int, advance: Advance
) -> tuple[tuple[LayerError, ...], tuple[str, ...]]:
    """Signal to noise of each matched layer on at most 64 rows, in the graph's order, and notes.

    Raises `LoadFailed`, `ModelRunFailed`.
    """
    models = _structure(baseline), _structure(artifact)
    layers, candidates = matching_layers(models[0].graph, models[1].graph)
    notes = _notes(layers, candidates)
    layers = layers[:MOST_LAYERS]
    sums = {layer: Likeness() for layer in layers}
    for start in range(0, len(layers), VALUES_AT_ONCE):
        group = layers[start : start + VALUES_AT_ONCE]
        before = _exposing(models[0], baseline.parent, [layer.before for layer in group], threads)
        after = _exposing(models[1], artifact.parent, [layer.after for layer in group], threads)
        _compare(group, sums, before, after, rows, batch)
        advance((start + len(group)) / len(layers))
    return tuple(
        LayerError(name=layer.name, operator=layer.operator, sqnr_db=likeness.sqnr_db)
        for layer, likeness in sums.items()
        if likeness.rows
    ), notes


def matching_layers(before: onnx.GraphProto, after: onnx.GraphProto) -> tuple[list[ComparedLayer], int]:
    """The layers both graphs have, in the original's order, and how many layers the original has.

    A value counts as a layer's output if either graph computes it with a layer operator: fusing a convolution
    with its batch norm or activation moves the name on to a later value.
    """
    made_after = {name: node for node in after.node for name in node.output[:1]}
    dequantized_values = _dequantized_values(after)
    layers, candidates = [], 0
    for node in before.node:
        value = node.output[0]
        candidates += node.op_type in LAYER_OPERATORS
        if value not in made_after:
            continue
        maker = next((made for made in (node, _maker(value, made_after)) if made.op_type in LAYER_OPERATORS), None)
        if maker is not None:
            layers.append(
                ComparedLayer(maker.name or value, maker.op_type, value, dequantized_values.get(value, value))
            )
    return layers, candidates


def _dequantized_values(graph: onnx.GraphProto) -> dict[str, str]:
    """Value name -> name of what DequantizeLinear(QuantizeLinear(value)) returns."""
    quantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return {
        quantized[node.input[0]]: node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized
    }


def _maker(value: str, made: dict[str, onnx.NodeProto]) -> onnx.NodeProto:
    """The node that computes `value`, looking through a pair of QuantizeLinear and DequantizeLinear."""
    node = made[value]
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        if node.op_type == operator and node.input[0] in made:
            node = made[node.input[0]]
    return node


def _notes(layers: list[ComparedLayer], candidates: int) -> tuple[str, ...]:
    notes = []
    if candidates and len(layers) < FEW * candidates:
        notes.append(
            f"Error per layer: only {len(layers)} of {candidates} layers could be found again by name in the "
            "delivered graph."
        )
    if len(layers) > MOST_LAYERS:
        notes.append(f"Error per layer: the first {MOST_LAYERS} of {len(layers)} layers were measured.")
    return tuple(notes)


def _structure(model: Path) -> onnx.ModelProto:
    return onnx.load(str(model), load_external_data=False)


def _exposing(model: onnx.ModelProto, folder: Path, values: list[str], threads: int) -> Run:
    """The model with exactly `values` as outputs. Its unused remainder is removed by the runtime."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values)
    try:
        content = model.SerializeToString()
    finally:
        del model.graph.output[:]
        model.graph.output.extend(outputs)
    config = {EXTERNAL_FOLDER: str(folder)}
    return runner(session(content, threads, config=config, blocked=not computes_in_float16(model.graph)))


def _compare(
    group: list[ComparedLayer],
    sums: dict[ComparedLayer, Likeness],
    before: Run,
    after: Run,
    rows: AnyRows,
    batch: BatchRange,
) -> None:
    size = batch.nearest(ROWS_AT_ONCE)
    batches: Iterator = islice(rows.batches(size), max(1, ROWS // size))
    for pair in paired(before, after, batches, size):
        for layer in group:
            x, y = pair.before[layer.before], pair.after[layer.after]
            if x.shape == y.shape and np.issubdtype(x.dtype, np.floating):
                sums[layer].add(x, y)
