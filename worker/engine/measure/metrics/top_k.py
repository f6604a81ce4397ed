"""The share of rows whose label is among the highest scores."""

from typing import Self

import numpy as np

from app.spec.metrics.top_k import TopK
from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.metrics.base import MeanOverRows
from worker.engine.measure.noise import drop_interval
from worker.engine.measure.running import Arrays


class RightAnswers(MeanOverRows):
    """Whether each row's label is among the `rank` highest scores; equal scores rank in class order. A byte a row."""

    metric: TopK

    def contributions(self, outputs: Arrays, labels: np.ndarray) -> np.ndarray:
        """Bool `[rows]`, of scores `[rows, classes]` and labels `[rows]`."""
        scores = self.judged(outputs)
        classes = class_labels(scores, labels)
        if scores.shape[1] <= self.metric.rank:
            raise MetricNotApplicable("with so few classes every answer is right")
        return within(scores, classes, self.metric.rank)

    @property
    def resolution(self) -> float:
        """One row's."""
        return 1 / len(self)

    def loss_interval(self, after: Self) -> tuple[float, float]:
        """The score interval of paired proportions."""
        lost, gained = int((self.rows & ~after.rows).sum()), int((~self.rows & after.rows).sum())
        return drop_interval(lost, gained, len(self))


def class_labels(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels as int64 `[rows]` that index the columns of the scores. Raises `MetricNotApplicable`."""
    if labels.ndim > 1 and labels.size == len(labels):
        labels = labels.reshape(len(labels))
    shapes = f"the first output is {list(scores.shape)} for labels of shape {list(labels.shape)}"
    if scores.ndim == 2 and labels.shape == scores.shape and scores.shape[1] > 1:
        raise MetricNotApplicable(f"{shapes}; store the number of the class instead of one column per class")
    if scores.ndim != 2 or labels.ndim != 1 or len(scores) != len(labels):
        raise MetricNotApplicable(f"{shapes}; classes need scores [rows, classes] and one label per row")
    if scores.shape[1] == 1:
        raise MetricNotApplicable("the first output has one column; classes need one column each")
    if labels.dtype.kind not in "iub":
        raise MetricNotApplicable(f"the labels are {labels.dtype}; classes are numbered with integers")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= scores.shape[1]:
        raise MetricNotApplicable(
            f"labels range from {low} to {high}; the first output has {scores.shape[1]} columns, numbered from 0"
        )
    return labels.astype(np.int64)


def within(scores: np.ndarray, labels: np.ndarray, rank: int) -> np.ndarray:
    """Bool `[rows]`: whether the label's score is among the `rank` highest. A row that is not finite is wrong."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    tied_before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    ahead = ((scores > own) | tied_before).sum(axis=1)
    return (ahead < rank) & ~np.isnan(scores).any(axis=1)
