"""Running the float graph over calibration rows and watching chosen tensors, a batch at a time."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from app.spec.quantize import QuantizeStatic
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.errors import CalibrationFailed
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session, without_paths
from worker.engine.onnx_graph.topological import keep_ancestors
from worker.engine.plan.plan import Range
from worker.engine.quantization.observers import Extremes, Histogram

BATCH = 16
"""Rows run at once, where their activations are small."""
ACTIVATION_BYTES = 256 << 20
"""Of activations of one batch, and of those held at once for histograms. A resnet50 has 106 MB for each image."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Observed:
    """What a pass over the rows found out about each tensor."""

    extremes: dict[str, Extremes]
    elements_per_row: dict[str, int]
    batch: int
    """Rows that the graph took at once."""


class GraphStopped(CalibrationFailed):
    """The runtime could not run the float graph on some rows."""

    remedy = (
        "Check that the rows fit the model: ids inside of the vocabulary, shapes as in training. If the graph fixes "
        "its batch, export it with a dynamic batch: dynamic_shapes=({0: 'batch'},)."
    )


def measure_ranges(
    graph: Path, tensors: tuple[str, ...], rows: Rows, step: QuantizeStatic, context: Context
) -> dict[str, Range]:
    """The range of each of `tensors` (float32 values of the graph) over the rows.

    One pass finds the extremes inside the runtime; percentile, entropy and mse take a second one for histograms.
    Memory does not depend on the number of rows. Raises `CalibrationFailed`.
    """
    if not len(rows):
        raise CalibrationFailed("There are no calibration rows.")
    seen = find_extremes(graph, tensors, rows, context)
    ranges = {name: extremes.range() for name, extremes in seen.extremes.items()}
    match step.observer:
        case "minmax":
            return ranges
        case "moving_average":
            return {name: extremes.moving_average() for name, extremes in seen.extremes.items()}
    return ranges | {
        name: _range_of(histogram, ranges[name], step)
        for name, histogram in count_values(graph, seen, rows, context).items()
    }


def _range_of(histogram: Histogram, extremes: Range, step: QuantizeStatic) -> Range:
    match step.observer:
        case "percentile":
            return histogram.percentile(step.percentile, extremes)
        case "entropy":
            return histogram.entropy(extremes)
        case _:
            return histogram.mse(extremes)


def find_extremes(graph: Path, tensors: tuple[str, ...], rows: Rows, context: Context) -> Observed:
    """Smallest and largest value and size of each tensor; reduced inside the graph, so only scalars come out."""
    model = onnx.load(graph)
    outputs = [output.name for output in model.graph.output]
    # The runtime plans from the last leaf back: added in this order, a tensor is reduced, and freed, before the next
    # is computed. In the other one all of them are held to the end (resnet50: 1.6 GB for 16 rows).
    for name in reversed(tensors):
        _add_reductions(model, name)
    file = save(model, context.scratch / "extremes.onnx")[0]
    del model  # as large as the weights; the session has its own
    runner = session(file, context.threads)
    elements = row_sizes(runner, tensors, rows)
    found, batch = in_batches(
        lambda size: _extremes(runner, outputs, tensors, rows, size, context), runner, elements.values(), context
    )
    return Observed(found, elements, batch)


def in_batches(
    measure: Callable[[int], Found], runner: InferenceSession, elements_per_row: Iterable[int], context: Context
) -> tuple[Found, int]:
    """What `measure` finds with as many rows at once as the graph and the budget allow, and that number."""
    batch = fixed_batch(runner) or rows_at_once(elements_per_row)
    try:
        return measure(batch), batch
    except GraphStopped as error:
        if batch == 1 or fixed_batch(runner):
            raise
        # A Reshape to a constant batch of 1 is common in exports whose first axis is declared free. If it is not
        # that, one row at a time shows which row the graph stops on.
        context.progress.log(f"Not {batch} rows at once, but one at a time: {error.detail}", "warning")
        return measure(1), 1


def _extremes(
    runner: InferenceSession, outputs: list[str], tensors: tuple[str, ...], rows: Rows, batch: int, context: Context
) -> dict[str, Extremes]:
    found = {name: Extremes() for name in tensors}
    reduced = [f"{name}{kind}" for name in tensors for kind in (LOWEST, HIGHEST)]
    done = 0
    for count, feeds in feeds_of(rows, runner, batch):
        values = run(runner, outputs + reduced, feeds, rows.indices[done : done + count])
        _require_numbers(dict(zip(outputs, values, strict=False)))
        for position, name in enumerate(tensors):
            low, high = values[len(outputs) + 2 * position :][:2]
            found[name].update(float(low), float(high))
        done += count
        context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows")
    for name, extremes in found.items():
        if not (np.isfinite(extremes.low) and np.isfinite(extremes.high)):
            raise CalibrationFailed(
                f"Tensor {name} takes values that are not finite on the calibration data.",
                remedy="Check the data and its preprocessing; if the model means them, put the nodes that read and "
                "write this tensor on the skip list.",
            )
    return found


LOWEST, HIGHEST, SIZE = "/pare_lowest", "/pare_highest", "/pare_size"


def _add_reductions(model: onnx.ModelProto, tensor: str) -> None:
    for operator, suffix in (("ReduceMin", LOWEST), ("ReduceMax", HIGHEST)):
        name = tensor + suffix
        model.graph.node.append(helper.make_node(operator, [tensor], [name], name, keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    add_size(model, tensor)


def add_size(model: onnx.ModelProto, tensor: str) -> None:
    """Have the graph put out the number of elements of a tensor, for `row_sizes`."""
    name = tensor + SIZE
    model.graph.node.append(helper.make_node("Size", [tensor], [name], name))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, []))


def watch_only(model: onnx.ModelProto, outputs: Collection[str]) -> None:
    """Leave the graph these outputs, and the nodes that they depend on.

    A leaf that is not reduced costs memory, read or not: the runtime computes convolutions in a layout of its own, puts
    a node that turns it back behind the last of them, and begins with what this needs. Then every activation on the way
    is held until it is reduced (16 convolutions of 16 MB each: 277 MB instead of 60).
    """
    kept = [output for output in model.graph.output if output.name in outputs]
    model.graph.ClearField("output")
    model.graph.output.extend(kept)
    keep_ancestors(model.graph)


def row_sizes(runner: InferenceSession, tensors: Iterable[str], rows: Rows) -> dict[str, int]:
    """Elements of each tensor for one row, rounded up: the first row is run for it."""
    tensors = tuple(tensors)
    fresh, feeds = next(feeds_of(rows, runner, 1))
    sizes = run(runner, [f"{name}{SIZE}" for name in tensors], feeds, rows.indices[:fresh])
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
    file = save(model, context.scratch / "histograms.onnx")[0]
    del model
    runner = session(file, context.threads)
    done = 0
    for count, feeds in feeds_of(rows, runner, seen.batch):
        for group in groups(histograms, seen.elements_per_row, len(next(iter(feeds.values())))):
            computed = run(runner, group, feeds, rows.indices[done : done + count])
            for name, values in zip(group, computed, strict=True):
                histograms[name].update(values)
        done += count
        context.progress.advance(done / len(rows), f"{done} of {len(rows)} rows, histograms")
    return histograms


def groups(names: Iterable[str], elements_per_row: dict[str, int], batch: int) -> list[list[str]]:
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
    fixed = fixed_batch(runner)
    size = fixed or batch
    for arrays, _ in rows.batches(size):
        feeds = {entry.name: arrays[entry.name] for entry in runner.get_inputs()}
        count = len(next(iter(feeds.values())))
        if fixed and count < size:
            feeds = {name: np.resize(array, (size, *array.shape[1:])) for name, array in feeds.items()}
        yield count, feeds


def fixed_batch(runner: InferenceSession) -> int | None:
    """The number of rows the graph declares, None if it is free. Raises `CalibrationFailed` if inputs disagree."""
    fixed = {
        entry.name: entry.shape[0] for entry in runner.get_inputs() if entry.shape and isinstance(entry.shape[0], int)
    }
    if len(set(fixed.values())) > 1:
        sizes = ", ".join(f"{name} {size}" for name, size in fixed.items())
        raise CalibrationFailed(
            f"The inputs' first axes are fixed at different sizes ({sizes}), so no batch fits them all.",
            remedy="Export the model with the rows on the first axis of every input, and a dynamic batch.",
        )
    return next(iter(fixed.values()), None)


def run(
    runner: InferenceSession, outputs: list[str], feeds: dict[str, np.ndarray], places: np.ndarray
) -> list[np.ndarray]:
    """The outputs for one batch, whose rows have these positions in the data set. Raises `GraphStopped`."""
    try:
        values: list[np.ndarray] = runner.run(outputs, feeds)
    except Exception as error:  # pybind raises a class per status code, all direct children of Exception
        where = f"row {places[0]}" if len(places) == 1 else f"{len(places)} rows from row {places[0]}"
        raise GraphStopped(f"The float model stops on {where} of the data set: {without_paths(error)}") from error
    return values


def _require_numbers(outputs: dict[str, np.ndarray]) -> None:
    """A NaN inside the network reaches an output; the runtime's ReduceMin and ReduceMax may pass over it.

    Infinity is a legitimate output: a mask, the logarithm of 0.
    """
    for name, values in outputs.items():
        if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
            raise CalibrationFailed(f"Output {name} takes values that are not finite (NaN) on the calibration data.")
