"""Every kind of metric of the contract with what gathers it."""

from collections.abc import Callable
from typing import Any

from app.spec.metrics import METRICS, Metric
from app.spec.metrics.mean_squared_error import MeanSquaredError
from app.spec.metrics.top_k import TopK
from worker.engine.measure.metrics.base import Accumulator
from worker.engine.measure.metrics.mean_squared_error import SquaredErrors
from worker.engine.measure.metrics.top_k import RightAnswers

ACCUMULATORS: dict[type[Metric], Callable[[Any, str | None], Accumulator]] = {
    MeanSquaredError: SquaredErrors,
    TopK: RightAnswers,
}


def accumulator(name: str, output: str | None = None) -> Accumulator:
    """A fresh accumulator of the metric of this name; `output` is judged, the first if left out."""
    metric = METRICS[name]
    return ACCUMULATORS[type(metric)](metric, output)
