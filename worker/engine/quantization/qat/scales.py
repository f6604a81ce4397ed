"""How many codes each tensor gets, and the grids that training begins with: those with the least squared error."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from app.spec.quantize_aware import QuantizeAware
from app.spec.targets import Target
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.lowering.onnx.placement import Placement
from worker.engine.plan.clip_search import best_scale
from worker.engine.plan.plan import Grid, Range
from worker.engine.quantization.calibration import observe_numbers
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.quantization.observers import least_squares
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.histogram import StreamedHistogram

BITS = {"int8": 8, "int4": 4, "int3": 3, "int2": 2}
SEVEN_BITS = (-64, 64)
"""Where products of two bytes are added up in 16 bits, larger weights saturate."""
SHARES = np.linspace(1.0, 0.2, 40, dtype=np.float32)
"""Of the largest weight, tried as the end of the grid: training begins with few bits, which bear more clipping."""
SMALLEST_SCALE = 1e-5
"""Of a channel, relative to the layer's largest: where a channel's weights all vanish, its bias must still fit."""


@dataclass(frozen=True)
class Widths:
    """How many codes each tensor has."""

    activations: Mapping[str, int]
    """Bits, by tensor with a scale of its own."""
    weights: Mapping[str, tuple[int, int]]
    """The lowest and the highest code, by the output of the layer."""


def edges_of(step: QuantizeAware, placed: Placement) -> frozenset[str]:
    """The layers that keep 8 bits whatever the others have, by their nodes."""
    return frozenset({placed.layers[0].node, placed.layers[-1].node} if step.edges == "int8" else ())


def widths_of(step: QuantizeAware, placed: Placement, targets: Collection[Target], wide: Collection[str]) -> Widths:
    """Few bits for weights and for what layers read, as the step asks; 8 for sums, outputs and the layers `wide`."""
    legacy = any(target.saturates for target in targets)
    eight = SEVEN_BITS if legacy else (-127, 127)
    narrow = {placed.scale_of[layer.inputs] for layer in placed.layers if layer.node not in wide}
    bits, half = BITS[step.activations], 2 ** (BITS[step.weights] - 1)
    return Widths(
        {source: bits if source in narrow else 8 for source in dict.fromkeys(placed.scale_of.values())},
        {
            layer.output: eight if layer.node in wide or step.weights == "int8" else (-half, half - 1)
            for layer in placed.layers
        },
    )


def activation_grids(graph: Path, bits: Mapping[str, int], rows: Rows, context: Context) -> dict[str, Grid]:
    """For each tensor named in `bits` its grid, as the rows suggest it. Raises `CalibrationFailed`."""
    if not len(rows):
        raise CalibrationFailed("There are no rows to find the first scales on.")
    collector = Collector(graph)
    observe_numbers(collector)
    histograms = {name: collector.observe(name, StreamedHistogram()) for name in bits}
    collector.run(rows, context)
    return {name: grid_of(_worth_a_code(histograms[name], width), width) for name, width in bits.items()}


def _worth_a_code(seen: StreamedHistogram, bits: int) -> Range:
    """The part of a tensor's range that has the least squared error with so many bits."""
    histogram = seen.finished()
    if histogram is None:
        return Range(0.0, 1.0)  # it was always 0
    return least_squares(histogram, seen.extremes.range(), 2**bits - 1)


def grid_of(covered: Range, bits: int) -> Grid:
    """Unsigned codes for a range around 0, which has a code of its own."""
    last = 2**bits - 1
    scale = float(np.float32((covered.high - covered.low) / last)) or 1 / last
    return Grid((scale,), 0, last, zero_point=min(last, max(0, round(-covered.low / scale))))


def weight_grid(weight: Tensor, codes: tuple[int, int], axis: int | None) -> Grid:
    """Signed codes around 0, with one scale for each channel along `axis`, or for all of the weight."""
    low, high = codes
    channels = (weight.reshape(1, -1) if axis is None else weight.transpose(0, axis).flatten(1)).numpy(force=True)
    largest = np.abs(channels).max(axis=1, keepdims=True)
    whole = np.maximum(largest / np.float32(high), np.finfo(np.float32).tiny / SHARES[-1])
    scales = best_scale(channels, whole, codes, shares=SHARES)[:, 0]
    return Grid(tuple(np.maximum(scales, SMALLEST_SCALE * scales.max()).tolist()), low, high, axis=axis)
