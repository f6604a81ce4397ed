"""The mean squared difference of an output to its labels."""

import numpy as np

from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.metrics.base import MeanOverRows
from worker.engine.measure.running import Arrays


class SquaredErrors(MeanOverRows):
    """The mean squared error of each row, 8 bytes a row."""

    def contributions(self, outputs: Arrays, labels: np.ndarray) -> np.ndarray:
        """float64 `[rows]`, of an output and labels `[rows, ...]` of one shape; an axis of one may be missing."""
        output = self.judged(outputs)
        if squeezed(output.shape) != squeezed(labels.shape):
            raise MetricNotApplicable(
                f"the first output is {list(output.shape)} for labels of shape {list(labels.shape)}; "
                f"{self.metric.name} needs labels shaped like the output"
            )
        target = labels.reshape(len(labels), -1).astype(np.float64)
        return np.asarray(np.square(output.reshape(target.shape) - target).mean(axis=1))

    def value(self, rows: np.ndarray | None = None) -> float:
        """Raises `MetricNotApplicable` where an error is not finite, which the parity of the outputs says."""
        value = super().value(rows)
        if not np.isfinite(value):
            raise MetricNotApplicable("an output is not finite")
        return value


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of one, rows kept."""
    return (*shape[:1], *(size for size in shape[1:] if size != 1))
