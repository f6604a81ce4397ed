"""Metrics on labelled rows, before and after. The scores are one output of the model, the first unless named."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from app.spec.evaluate import MetricName
from app.spec.figures import MetricChange
from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.noise import drop_interval, mean_interval
from worker.engine.measure.running import Pair

RANKS: dict[MetricName, int] = {"top1": 1, "top5": 5}


class Metric(Protocol):
    """Sums over labelled rows."""

    def add(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> None:
        """Take in the first outputs of both models for some rows. Raises `MetricNotApplicable`."""

    def change(self) -> MetricChange | None:
        """The figures so far; None where the metric says nothing about this model."""


@dataclass
class TopK:
    """Share of rows whose label is among the `rank` highest scores; equal scores rank in class order."""

    name: MetricName
    rows: int = 0
    right_before: int = 0
    right_after: int = 0
    lost: int = 0
    gained: int = 0
    classes: int = 0

    def add(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> None:
        """Scores `[rows, classes]`, labels `[rows]`. Raises `MetricNotApplicable`."""
        labels = class_labels(before, labels)
        was = within(before, labels, RANKS[self.name])
        now = within(after, labels, RANKS[self.name])
        self.rows += len(labels)
        self.classes = before.shape[1]
        self.right_before += int(was.sum())
        self.right_after += int(now.sum())
        self.lost += int((was & ~now).sum())
        self.gained += int((~was & now).sum())

    def change(self) -> MetricChange | None:
        """None where there are no more classes than ranks: every answer would be right."""
        if self.classes <= RANKS[self.name]:
            return None
        low, high = drop_interval(self.lost, self.gained, self.rows)
        return MetricChange(
            metric=self.name,
            before=self.right_before / self.rows,
            after=self.right_after / self.rows,
            rows=self.rows,
            resolution=1 / self.rows,
            drop=(self.lost - self.gained) / self.rows,
            drop_low=low,
            drop_high=high,
        )


@dataclass
class MeanSquaredError:
    """Mean over rows of the mean squared difference to the labels. Keeps 16 bytes a row for the interval."""

    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)

    def add(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> None:
        """Outputs and labels `[rows, ...]` of one shape; an axis of one may be missing.

        Raises `MetricNotApplicable`.
        """
        if squeezed(before.shape) != squeezed(labels.shape):
            raise MetricNotApplicable(
                f"the first output is {list(before.shape)} for labels of shape {list(labels.shape)}; "
                "mse needs labels shaped like the output"
            )
        target = labels.reshape(len(labels), -1).astype(np.float64)
        self.before.append(np.square(before.reshape(target.shape) - target).mean(axis=1))
        self.after.append(np.square(after.reshape(target.shape) - target).mean(axis=1))

    def change(self) -> MetricChange | None:
        """None where an error is not finite, which the parity of the outputs says, or one row is all there is."""
        before, after = np.concatenate(self.before), np.concatenate(self.after)
        low, high = mean_interval(after - before)
        if not np.isfinite((low, high, before.mean(), after.mean())).all():
            return None
        return MetricChange(
            metric="mse",
            before=float(before.mean()),
            after=float(after.mean()),
            rows=len(before),
            drop=float((after - before).mean()),
            drop_low=low,
            drop_high=high,
        )


class Metrics:
    """All the metrics asked for, on the rows that have labels; one that the labels do not fit is left out."""

    def __init__(self, names: tuple[MetricName, ...], output: str | None = None) -> None:
        """`output` is the one that is judged, the first if left out."""
        self._output = output
        self._metrics: dict[MetricName, Metric] = {
            name: TopK(name) if name in RANKS else MeanSquaredError() for name in dict.fromkeys(names)
        }
        self._left_out: dict[MetricName, str] = {}
        self._labelled = 0

    def add(self, pair: Pair) -> None:
        """Take in some rows; without labels nothing happens."""
        if pair.labels is None or not len(pair.labels):
            return
        self._labelled += len(pair.labels)
        judged = self._output or next(iter(pair.before))
        for name, metric in self._metrics.items():
            if name in self._left_out:
                continue
            try:
                metric.add(pair.before[judged], pair.after[judged], pair.labels)
            except MetricNotApplicable as reason:
                self._left_out[name] = str(reason)

    def changes(self) -> tuple[tuple[MetricChange, ...], tuple[str, ...]]:
        """The figures, and notes on what was asked for and not measured."""
        if not self._labelled:
            names = ", ".join(self._metrics)
            return (), ((f"{names}: not measured, there are no labelled test rows.",) if names else ())
        changes, notes = [], []
        for name, metric in self._metrics.items():
            if name in self._left_out:
                notes.append(f"{name}: not measured, {self._left_out[name]}.")
                continue
            change = metric.change()
            if change is not None:
                changes.append(change)
            elif name in RANKS:
                notes.append(f"{name}: not measured, with so few classes every answer is right.")
            elif self._labelled == 1:
                notes.append(f"{name}: not measured, one row has no spread to tell a difference from noise.")
            else:
                notes.append(f"{name}: not measured, an output is not finite.")
        return tuple(changes), tuple(notes)


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


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of one, rows kept."""
    return (*shape[:1], *(size for size in shape[1:] if size != 1))
