"""How a metric is gathered batch by batch, for one model, and compared with another model's on the same rows."""

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from app.spec.metrics import Metric
from worker.engine.measure.intervals import mean_interval, paired_bootstrap
from worker.engine.measure.running import Arrays


class Accumulator(ABC):
    """One metric of one model. It keeps no more than a few bytes of each row."""

    def __init__(self, metric: Any, output: str | None = None) -> None:
        """`metric` is the row of `app.spec.metrics.METRICS`; `output` the one that is judged, the first if left out."""
        self.metric: Metric = metric
        self._output = output

    @abstractmethod
    def update(self, outputs: Arrays, labels: np.ndarray) -> None:
        """Take in a batch: the model's outputs by name and the labels, rows first. Raises `MetricNotApplicable`."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows taken in."""

    @abstractmethod
    def value(self, rows: np.ndarray | None = None) -> float:
        """The metric over all rows, or over those at these places, int64 `[any]`, each as often as it is named.

        Raises `MetricNotApplicable` where it says nothing about this model.
        """

    @property
    def resolution(self) -> float | None:
        """The smallest difference that so many rows can show; None where the metric is continuous."""
        return None

    def loss(self, after: Self) -> float:
        """What another model, which has taken in the same rows, loses of the metric; negative where it gains."""
        return self.metric.loss(self.value(), after.value())

    def loss_interval(self, after: Self) -> tuple[float, float]:
        """95 % interval of that loss: a paired bootstrap over the rows, unless the metric has a closed form."""

        def resampled(rows: np.ndarray) -> float:
            return self.metric.loss(self.value(rows), after.value(rows))

        return paired_bootstrap(len(self), resampled)

    def rows_to_tell(self, after: Self, bound: float) -> int | None:
        """About how many rows like these would show or exclude a loss beyond `bound`; None where it is not known.

        Loss and spread stay as they are; an interval shrinks with the root of the rows.
        """
        loss, (low, high) = self.loss(after), self.loss_interval(after)
        reach = high - loss if loss < bound else loss - low
        if loss == bound or not math.isfinite(reach):
            return None
        return math.ceil(len(self) * (reach / (bound - loss)) ** 2)

    def chance(self) -> float | None:
        """The value that a model reaches which has learned nothing of its inputs; None where there is no such level."""
        return None

    def value_interval(self) -> tuple[float, float] | None:
        """95 % interval of the value; None where it is not compared with anything."""
        return None

    def judged(self, outputs: Arrays) -> np.ndarray:
        """The output that is judged."""
        return outputs[self._output or next(iter(outputs))]


class MeanOverRows(Accumulator):
    """A metric that is the mean of what each row contributes; kept as `rows`, a number or a bool each."""

    def __init__(self, metric: Any, output: str | None = None) -> None:
        super().__init__(metric, output)
        self._batches: list[np.ndarray] = []

    @abstractmethod
    def contributions(self, outputs: Arrays, labels: np.ndarray) -> np.ndarray:
        """What each row of a batch contributes, `[rows]`. Raises `MetricNotApplicable`."""

    def update(self, outputs: Arrays, labels: np.ndarray) -> None:
        self._batches.append(self.contributions(outputs, labels))

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    @property
    def rows(self) -> np.ndarray:
        """What each row contributes, `[rows]`."""
        return np.concatenate(self._batches)

    def value(self, rows: np.ndarray | None = None) -> float:
        return float((self.rows if rows is None else self.rows[rows]).mean())

    def losses(self, after: Self) -> np.ndarray:
        """What another model loses on each row, float64 `[rows]`."""
        change = after.rows.astype(np.float64) - self.rows
        return -change if self.metric.higher_is_better else change

    def loss(self, after: Self) -> float:
        return float(self.losses(after).mean())

    def loss_interval(self, after: Self) -> tuple[float, float]:
        """By Student's t, of the rows' losses."""
        return mean_interval(self.losses(after))
