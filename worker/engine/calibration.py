"""Running the float graph over calibration rows and watching chosen tensors, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from app.spec.quantize import QuantizeStatic
from worker.engine.data import Rows
from worker.engine.errors import CalibrationFailed
from worker.engine.observers import Extremes, Histogram
from worker.engine.onnx_file import save
from worker.engine.passes import Context
from worker.engine.plan import Range
from worker.engine.sessions import session

BATCH = 16
"""Rows run at once, where their activations are small."""
ACTIVATION_BYTES = 256 << 20
"""Of activations of one batch, and of those held at once for histograms. A resnet50 has 106 MB for each image."""


@dataclass(frozen=True)
class Observed:
    """What a pass over the rows found out about each tensor."""

    extremes: dict[str, Extremes]
    elements_per_row: dict[str, int]


def measure_ranges(
    graph: Path, tensors: tuple[str, ...], rows: Rows, step: QuantizeStatic, context: Context
) -> dict[str, Range]:
    """The range of each of `tensors` (float32 values of the graph) over the rows.

    One pass finds the extremes inside the runtime; percentile and entropy take a second one for histograms.
    Memory does not depend on the number of rows. Raises `CalibrationFailed`.
    """
    if not len(rows):
        raise CalibrationFailed("There are no calibration rows.")
    seen = find_extremes(graph, tensors, rows, context)
    ranges = {name: extremes.range() for name, extremes in seen.extremes.items()}
    if step.observer == "minmax":
        return ranges
    histograms = count_values(graph, seen, rows, context)
    for name, histogram in histograms.items():
        if step.observer == "percentile":
            ranges[name] = histogram.percentile(step.percentile, ranges[name])
        else:
            ranges[name] = histogram.entropy(ranges[name])
    return ranges


def find_extremes(graph: Path, tensors: tuple[str, ...], rows: Rows, context: Context) -> Observed:
    """Smallest and largest value and size of each tensor; reduced inside the graph, so only scalars come out."""
    model = onnx.load(graph)
    outputs = [output.name for output in model.graph.output]
    reduced = [f"{name}{kind}" for name in tensors for kind in (LOWEST, HIGHEST, SIZE)]
    # The runtime plans from the last leaf back: added in this order, a tensor is reduced, and freed, before the next
    # is computed. In the other one all of them are held to the end (resnet50: 1.6 GB for 16 rows).
    for name in reversed(tensors):
        _add_reductions(model, name)
    runner = session(save(model, context.scratch / "extremes.onnx")[0], context.threads)
    found = {name: Extremes() for name in tensors}
    elements = _elements_per_row(runner, tensors, rows)
    done = 0
    for count, feeds in feeds_of(rows, runner, rows_at_once(elements.values())):
        values = runner.run(outputs + reduced, feeds)
        _require_finite(dict(zip(outputs, values, strict=False)))
        for position, name in enumerate(tensors):
            low, high, _ = values[len(outputs) + 3 * position :][:3]
            found[name].update(low, high)
        done += count
        context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows")
    for name, extremes in found.items():
        if not (np.isfinite(extremes.low) and np.isfinite(extremes.high)):
            raise CalibrationFailed(f"Tensor {name} takes values that are not finite on the calibration data.")
    return Observed(found, elements)


LOWEST, HIGHEST, SIZE = "/pare_lowest", "/pare_highest", "/pare_size"


def _add_reductions(model: onnx.ModelProto, tensor: str) -> None:
    for operator, suffix, dtype in (
        ("ReduceMin", LOWEST, TensorProto.FLOAT),
        ("ReduceMax", HIGHEST, TensorProto.FLOAT),
        ("Size", SIZE, TensorProto.INT64),
    ):
        attributes: dict[str, Any] = {} if operator == "Size" else {"keepdims": 0}
        model.graph.node.append(helper.make_node(operator, [tensor], [tensor + suffix], tensor + suffix, **attributes))
        model.graph.output.append(helper.make_tensor_value_info(tensor + suffix, dtype, []))


def _elements_per_row(runner: InferenceSession, tensors: tuple[str, ...], rows: Rows) -> dict[str, int]:
    """Elements of each tensor for one row, rounded up: the first row is run for it."""
    _, feeds = next(feeds_of(rows, runner, 1))
    sizes = runner.run([f"{name}{SIZE}" for name in tensors], feeds)
    count = len(next(iter(feeds.values())))
    return {name: -(-int(size) // count) for name, size in zip(tensors, sizes, strict=True)}


def rows_at_once(elements_per_row: Iterable[int]) -> int:
    """As many rows as keep float32 activations of these sizes in the budget; one at least."""
    return max(1, min(BATCH, ACTIVATION_BYTES // max(1, 4 * sum(elements_per_row))))


def count_values(graph: Path, seen: Observed, rows: Rows, context: Context) -> dict[str, Histogram]:
    """A histogram of each tensor. Activations leave the runtime in groups that fit a fixed budget."""
    histograms = {
        name: Histogram(magnitude)
        for name, extremes in seen.extremes.items()
        if (magnitude := max(-extremes.low, extremes.high)) > np.finfo(np.float32).tiny
    }
    model = onnx.load(graph)
    present = {output.name for output in model.graph.output}
    for name in sorted(histograms.keys() - present):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    runner = session(save(model, context.scratch / "histograms.onnx")[0], context.threads)
    batch = rows_at_once(seen.elements_per_row[name] for name in histograms)
    done = 0
    for count, feeds in feeds_of(rows, runner, batch):
        for group in groups(histograms, seen.elements_per_row, len(next(iter(feeds.values())))):
            for name, values in zip(group, runner.run(group, feeds), strict=True):
                histograms[name].update(values)
        done += count
        context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows, histograms")
    return histograms


def groups(names: dict[str, Histogram], elements_per_row: dict[str, int], batch: int) -> list[list[str]]:
    """The names in order, cut where the next tensor would exceed the budget."""
    cut: list[list[str]] = [[]]
    held = 0
    for name in names:
        size = 4 * elements_per_row[name] * batch
        if cut[-1] and held + size > ACTIVATION_BYTES:
            cut.append([])
            held = 0
        cut[-1].append(name)
        held += size
    return [group for group in cut if group]


def feeds_of(rows: Rows, runner: InferenceSession, batch: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the number of new rows and the model's inputs; a fixed batch size is filled up by repeating rows."""
    inputs = {entry.name: entry for entry in runner.get_inputs()}
    fixed = {entry.shape[0] for entry in inputs.values() if entry.shape and isinstance(entry.shape[0], int)}
    size = max(fixed, default=batch)
    for arrays, _ in rows.batches(size):
        feeds = {name: arrays[name] for name in inputs}
        count = len(next(iter(feeds.values())))
        if fixed and count < size:
            feeds = {name: np.resize(array, (size, *array.shape[1:])) for name, array in feeds.items()}
        yield count, feeds


def _require_finite(outputs: dict[str, np.ndarray]) -> None:
    """A NaN inside the network reaches an output; the runtime's ReduceMin and ReduceMax may pass over it."""
    for name, values in outputs.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise CalibrationFailed(f"Output {name} takes values that are not finite on the calibration data.")
