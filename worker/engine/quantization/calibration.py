"""What a static plan wants to know of the float graph, from one pass over the calibration rows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from app.spec.quantize import QuantizeStatic
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.plan.plan import Range
from worker.engine.quantization.bias_means import observe_input_means
from worker.engine.quantization.observers import OBSERVERS
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.extremes import NoNaN


@dataclass(frozen=True)
class Calibrated:
    """What the rows showed."""

    ranges: dict[str, Range]
    """By tensor."""
    input_means: Mapping[str, np.ndarray]
    """By node, see `StaticPlan`."""


def calibrate(
    graph: Path, tensors: Collection[str], nodes: Collection[str], rows: Rows, step: QuantizeStatic, context: Context
) -> Calibrated:
    """The range of each of `tensors`, float32 values of the graph, and the mean inputs of `nodes` for their biases.

    The rows are run once, whatever the observer, and memory does not depend on their number. Rescaling comes before
    with a pass of its own, as it changes the values whose ranges these are, and so does a budget afterwards, which is
    measured on the quantized network. Raises `CalibrationFailed`.
    """
    collector = Collector(graph)
    observe_numbers(collector)
    observer = OBSERVERS[step.observer](step)
    seen = {name: collector.observe(name, observer.statistic()) for name in tensors}
    means = observe_input_means(collector, nodes) if step.bias_correction else {}
    collector.run(rows, context)
    return Calibrated(
        {name: observer.range(statistic) for name, statistic in seen.items()},
        {name: statistic.mean() for name, statistic in means.items()},
    )


def observe_numbers(collector: Collector) -> None:
    """Have the collector refuse rows that lead to outputs that are no numbers."""
    for output in onnx.load(collector.graph, load_external_data=False).graph.output:
        collector.observe(output.name, NoNaN())
