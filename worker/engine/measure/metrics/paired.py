"""Metrics of two models on the same labelled rows."""

import math

from app.spec.figures import MetricChange
from app.spec.metrics import MetricName
from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.metrics.base import Accumulator
from worker.engine.measure.metrics.table import accumulator
from worker.engine.measure.running import PairedOutputs


class PairedMetrics:
    """All the metrics asked for, on the rows that have labels; one that the labels do not fit is left out."""

    def __init__(self, names: tuple[MetricName, ...], output: str | None = None) -> None:
        """`output` is the one that is judged, the first if left out."""
        self._metrics = {name: (accumulator(name, output), accumulator(name, output)) for name in names}
        self._left_out: dict[MetricName, str] = {}
        self._labelled = 0

    def add(self, pair: PairedOutputs) -> None:
        """Take in some rows; without labels nothing happens."""
        if pair.labels is None or not len(pair.labels):
            return
        self._labelled += len(pair.labels)
        for name, (before, after) in self._metrics.items():
            if name in self._left_out:
                continue
            try:
                before.update(pair.before, pair.labels)
                after.update(pair.after, pair.labels)
            except MetricNotApplicable as reason:
                self._left_out[name] = str(reason)

    def changes(self) -> tuple[tuple[MetricChange, ...], tuple[str, ...]]:
        """The figures, and notes on what was asked for and not measured."""
        if not self._labelled:
            names = ", ".join(self._metrics)
            return (), ((f"{names}: not measured, there are no labelled test rows.",) if names else ())
        changes = []
        for name, (before, after) in self._metrics.items():
            if name in self._left_out:
                continue
            try:
                changes.append(_change(before, after))
            except MetricNotApplicable as reason:
                self._left_out[name] = str(reason)
        notes = (f"{name}: not measured, {self._left_out[name]}." for name in self._metrics if name in self._left_out)
        return tuple(changes), tuple(notes)


def _change(before: Accumulator, after: Accumulator) -> MetricChange:
    """The figures so far. Raises `MetricNotApplicable` where the metric says nothing about these models."""
    was, now, drop = before.value(), after.value(), before.loss(after)
    low, high = before.loss_interval(after)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MetricNotApplicable("one row has no spread to tell a difference from noise")
    kind = before.metric
    bound = kind.inexcusable(was) if kind.tolerates(was, drop) else 0.0
    span = before.value_interval()
    return MetricChange(
        metric=kind.name,
        before=was,
        after=now,
        rows=len(before),
        resolution=before.resolution,
        drop=drop,
        drop_low=low,
        drop_high=high,
        rows_needed=None if high <= bound or low > 0 else before.rows_to_tell(after, bound),
        chance=before.chance(),
        before_low=span[0] if span else None,
    )
