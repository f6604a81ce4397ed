"""A metric is what it says of itself and what gathers it.

In the house the first is a file of `app/spec/metrics`, and all that service, report and verdict know of it; the second
one of `worker/engine/measure/metrics`. `METRICS` has a row of an instance, `ACCUMULATORS` one of the class. This one is
no mean over rows, so that its interval is the paired bootstrap that every accumulator has.
"""

from typing import Any

import numpy as np

from app.spec.data import ArraySpec
from app.spec.metrics import Obstacle
from app.spec.metrics.base import Share
from app.spec.signature import FLOATS, TensorSpec
from worker.engine.measure.metrics.base import Accumulator
from worker.engine.measure.metrics.top_k import class_labels
from worker.engine.measure.running import Arrays


class BalancedAccuracy(Share):
    """The share of right answers of each class, as a mean over the classes; written in percent, higher is better."""

    name = "balanced"
    label = "balanced accuracy"
    numbers_classes = True

    def obstacle(self, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
        """Refused when the job is submitted, from shapes alone."""
        if labels.dtype in FLOATS or len(output.shape) != 2:
            return Obstacle("it needs scores [rows, classes] and class numbers", "Store `y` as integers.")
        return None


class AnswersByClass(Accumulator):
    """Label and answer of each row, 16 bytes a row."""

    def __init__(self, metric: Any, output: str | None = None) -> None:
        super().__init__(metric, output)
        self._batches: list[np.ndarray] = []

    def update(self, outputs: Arrays, labels: np.ndarray) -> None:
        scores = self.judged(outputs)
        self._batches.append(np.stack([class_labels(scores, labels), scores.argmax(axis=1)], axis=1))

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    def value(self, rows: np.ndarray | None = None) -> float:
        """Over all rows, or over those that the bootstrap has drawn."""
        answers = np.concatenate(self._batches)
        labels, given = (answers if rows is None else answers[rows]).T
        return float(np.mean([(given[labels == number] == number).mean() for number in np.unique(labels)]))
