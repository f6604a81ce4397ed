"""The share of labels that are among the highest scores: of rows, tokens or pixels."""

import math
from collections import Counter
from typing import Self

import numpy as np

from app.spec.metrics.top_k import TopK
from app.spec.scores import class_axis
from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.intervals import drop_interval, effective_rows, share_interval
from worker.engine.measure.metrics.base import MeanOverRows
from worker.engine.measure.metrics.mean_squared_error import squeezed
from worker.engine.measure.running import Arrays

STEP, STEPS = 1.15, 60
"""Rows that would be needed are tried in steps of a sixth or so, up to 4,000 times those that there are."""


class RightAnswers(MeanOverRows):
    """Whether each label is among the `rank` highest scores; equal scores rank in class order.

    A byte a row; of labels for tokens or pixels the share of right ones, 8 bytes a row.
    """

    metric: TopK

    def __init__(self, metric: TopK, output: str | None = None) -> None:
        super().__init__(metric, output)
        self._frequency: Counter[int] = Counter()
        self._answers = 0

    def contributions(self, outputs: Arrays, labels: np.ndarray) -> np.ndarray:
        """Bool `[rows]`, of scores `[rows, classes]` and labels `[rows]`; float64 `[rows]` of those of higher rank."""
        scores = self.judged(outputs)
        classes = class_labels(scores, labels)
        scores = np.moveaxis(scores, class_axis(scores.ndim), -1)
        if scores.shape[-1] <= self.metric.rank:
            raise MetricNotApplicable("with so few classes every answer is right")
        self._frequency.update(dict(zip(*map(np.ndarray.tolist, np.unique(classes, return_counts=True)), strict=True)))
        self._answers += classes.size
        right = within(scores, classes, self.metric.rank)
        return right if right.ndim == 1 else right.reshape(len(right), -1).mean(axis=1)

    @property
    def resolution(self) -> float:
        """One answer's."""
        return 1 / self._answers

    def loss_interval(self, after: Self) -> tuple[float, float]:
        """The score interval of paired proportions; of rows with many answers each Student's t.

        Where no row differs at all, rows count as single answers: they hide what so many can hide.
        """
        if self.rows.dtype == bool:
            return drop_interval(*self._flips(after), len(self))
        if not self.losses(after).any():
            return drop_interval(0, 0, len(self))
        return super().loss_interval(after)

    def rows_to_tell(self, after: Self, bound: float) -> int | None:
        """By the interval itself, for the same shares of rows that turn wrong and right."""
        if self.rows.dtype != bool:
            return super().rows_to_tell(after, bound)
        lost, gained = self._flips(after)
        loss = (lost - gained) / len(self)
        for step in range(1, STEPS + 1):
            factor = STEP**step
            rows = math.ceil(factor * len(self))
            low, high = drop_interval(round(lost * factor), round(gained * factor), rows)
            if (high <= bound) if loss < bound else (low > 0):
                return rows
        return None

    def chance(self) -> float:
        """The share of the most frequent labels, as many as count as right."""
        return sum(count for _, count in self._frequency.most_common(self.metric.rank)) / max(1, self._answers)

    def value_interval(self) -> tuple[float, float]:
        """Wilson's; tokens and pixels of one row fail together, which widens it."""
        shares = self.rows.astype(np.float64)
        count = effective_rows(float(shares.sum()), float(shares @ shares), len(self), self._answers)
        return share_interval(float(shares.mean()), count)

    def _flips(self, after: Self) -> tuple[int, int]:
        """How many rows turned wrong, and how many right."""
        return int((self.rows & ~after.rows).sum()), int((~self.rows & after.rows).sum())


def class_labels(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels as int64, one for each place of the scores, that index their classes. Raises `MetricNotApplicable`."""
    if scores.ndim < 2:
        raise MetricNotApplicable(f"the judged output is {list(scores.shape)}; classes need a score each")
    axis = class_axis(scores.ndim)
    places = scores.shape[:axis] + scores.shape[axis + 1 :]
    shapes = f"the judged output is {list(scores.shape)} for labels of shape {list(labels.shape)}"
    if labels.shape == scores.shape and scores.shape[axis] > 1:
        raise MetricNotApplicable(f"{shapes}; store the number of the class instead of one column per class")
    if squeezed(labels.shape) != squeezed(places):
        raise MetricNotApplicable(f"{shapes}; classes need scores [rows, classes] and a label per row, token or pixel")
    if scores.shape[axis] == 1:
        raise MetricNotApplicable("the judged output has one column; classes need one column each")
    if labels.dtype.kind not in "iub":
        raise MetricNotApplicable(f"the labels are {labels.dtype}; classes are numbered with integers")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= scores.shape[axis]:
        raise MetricNotApplicable(
            f"labels range from {low} to {high}; the judged output has {scores.shape[axis]} classes, numbered from 0"
        )
    return labels.reshape(places).astype(np.int64)


def within(scores: np.ndarray, labels: np.ndarray, rank: int) -> np.ndarray:
    """Bool, shaped like the labels: whether the label's score is among the `rank` highest of the last axis.

    One with a NaN among its scores is wrong.
    """
    own = np.take_along_axis(scores, labels[..., None], axis=-1)
    tied_before = (scores == own) & (np.arange(scores.shape[-1]) < labels[..., None])
    ahead = ((scores > own) | tied_before).sum(axis=-1)
    return np.asarray((ahead < rank) & ~np.isnan(scores).any(axis=-1))
