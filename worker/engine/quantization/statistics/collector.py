"""One pass over the calibration rows for everything that passes declare to have observed.

A pass names statistic points, each a value of the float graph and a statistic; the collector runs every row once for
all of them, whoever declared them, and memory does not depend on the number of rows. The idea is that of nncf's
statistic points. What needs the results of one collection before it can say what it wants observed takes a second one.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from onnxruntime import InferenceSession

from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.quantization.statistics.batches import (
    GraphStopped,
    feeds_of,
    fixed_batch,
    groups,
    rows_at_once,
    run,
)
from worker.engine.quantization.statistics.point import Observation, Statistic, StatisticPoint
from worker.engine.quantization.statistics.watched_graph import in_graph_order, reduced_name, size_name, watch

AnyStatistic = TypeVar("AnyStatistic", bound=Statistic)


class Collector:
    """Runs calibration rows through a float graph once, for all the statistics that were declared."""

    def __init__(self, graph: Path) -> None:
        """`graph` is a float32 ONNX file."""
        self.graph = graph
        self._points: list[StatisticPoint] = []

    def observe(self, value: str, statistic: AnyStatistic) -> AnyStatistic:
        """Declare a statistic of a float32 value of the graph; it is complete once `run` has returned."""
        self._points.append(StatisticPoint(value, statistic))
        return statistic

    def run(self, rows: Rows, context: Context) -> None:
        """Run the rows. Raises `CalibrationFailed`."""
        if not self._points:
            return
        if not len(rows):
            raise CalibrationFailed("There are no calibration rows.")
        model = onnx.load(self.graph)
        values = in_graph_order(model, {point.value for point in self._points})
        watch(model, self._points)
        file = save(model, context.scratch / "watched.onnx")[0]
        del model  # as large as the weights; the session has its own
        _Pass(self._points, values, session(file, context.threads), rows, context).run()


class _Pass:
    """The rows on their way through one session."""

    def __init__(
        self,
        points: Sequence[StatisticPoint],
        values: Sequence[str],
        runner: InferenceSession,
        rows: Rows,
        context: Context,
    ) -> None:
        """`values` are those of the points, in the graph's order."""
        self.points, self.runner, self.rows, self.context = points, runner, rows, context
        self.elements = row_sizes(runner, values, rows)
        arrays = {point.value for point in points if point.statistic.reads_array}
        self.fed = {entry.name for entry in runner.get_inputs()} & arrays
        self.arrays = [value for value in values if value in arrays - self.fed]
        self.reduced = list(dict.fromkeys(name for point in points for name in _reduced(point)))

    def run(self) -> None:
        """With as many rows at once as the graph and the budget allow, or else one at a time."""
        batch = fixed_batch(self.runner) or rows_at_once(self.elements.values())
        try:
            self._stream(batch)
        except GraphStopped as error:
            if batch == 1 or fixed_batch(self.runner):
                raise
            # A Reshape to a constant batch of 1 is common in exports whose first axis is declared free. If it is not
            # that, one row at a time shows which row the graph stops on.
            self.context.progress.log(f"Not {batch} rows at once, but one at a time: {error.detail}", "warning")
            for point in self.points:
                point.statistic.clear()
            self._stream(1)

    def _stream(self, batch: int) -> None:
        done = 0
        for count, feeds in feeds_of(self.rows, self.runner, batch):
            self._observe(count, feeds, self.rows.indices[done : done + count])
            done += count
            self.context.progress.advance(done / len(self.rows), f"{done} of {len(self.rows)} rows")

    def _observe(self, count: int, feeds: dict[str, np.ndarray], places: np.ndarray) -> None:
        """Hand one batch to every statistic. Arrays leave the runtime in groups that fit the budget.

        Nearly always there is one group: the batch is as large as the budget allows. Only where a single row exceeds
        it is the row run again for each further group.
        """
        size = len(next(iter(feeds.values())))
        first, *rest = groups(self.arrays, self.elements, size) or [[]]
        computed = run(self.runner, [*self.reduced, *first], feeds, places)
        reduced = {name: computed.pop(name) for name in self.reduced}
        arrays = {**computed, **{value: feeds[value] for value in self.fed}}
        self._update(count, (point for point in self.points if not point.statistic.reads_array), reduced, {})
        self._update(count, self._readers(arrays), reduced, arrays)
        for group in rest:
            arrays = run(self.runner, group, feeds, places)
            self._update(count, self._readers(arrays), reduced, arrays)

    def _readers(self, arrays: dict[str, np.ndarray]) -> list[StatisticPoint]:
        return [point for point in self.points if point.statistic.reads_array and point.value in arrays]

    def _update(
        self,
        count: int,
        points: Iterable[StatisticPoint],
        reduced: dict[str, np.ndarray],
        arrays: dict[str, np.ndarray],
    ) -> None:
        for point in points:
            own = [reduced[name] for name in _reduced(point)]
            point.statistic.update(Observation(point.value, count, own, arrays.get(point.value)))


def _reduced(point: StatisticPoint) -> list[str]:
    """What the results of a point's reductions are called in the watched graph."""
    return [reduced_name(point.value, reduction) for reduction in point.statistic.reductions]


def row_sizes(runner: InferenceSession, values: Sequence[str], rows: Rows) -> dict[str, int]:
    """Elements of each value for one row, rounded up: the first row is run for it."""
    fresh, feeds = next(feeds_of(rows, runner, 1))
    sizes = run(runner, [size_name(value) for value in values], feeds, rows.indices[:fresh])
    count = len(next(iter(feeds.values())))
    return {value: -(-int(sizes[size_name(value)]) // count) for value in values}
