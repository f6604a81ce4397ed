"""Rows as a graph takes them: how many at once, filled up where the graph fixes their number, and what stops it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from onnxruntime import InferenceSession

from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.sessions import without_paths
from worker.engine.quantization.errors import CalibrationFailed

BATCH = 16
"""Rows run at once, where their activations are small."""
ACTIVATION_BYTES = 256 << 20
"""Of activations of one batch, and of those that leave the runtime at once. A resnet50 has 106 MB for each image."""


class GraphStopped(CalibrationFailed):
    """The runtime could not run the float graph on some rows."""

    remedy = (
        "Check that the rows fit the model: ids inside of the vocabulary, shapes as in training. If the graph fixes "
        "its batch, export it with a dynamic batch: dynamic_shapes=({0: 'batch'},)."
    )


def rows_at_once(elements_per_row: Iterable[int]) -> int:
    """As many rows as keep float32 activations of these sizes in the budget; one at least."""
    return max(1, min(BATCH, ACTIVATION_BYTES // max(1, 4 * sum(elements_per_row))))


def groups(values: Iterable[str], elements_per_row: Mapping[str, int], batch: int) -> list[list[str]]:
    """The values in order, cut where the next one would exceed the budget."""
    cut: list[list[str]] = [[]]
    held = 0
    for value in values:
        size = 4 * elements_per_row[value] * batch
        if cut[-1] and held + size > ACTIVATION_BYTES:
            cut.append([])
            held = 0
        cut[-1].append(value)
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
    runner: InferenceSession, outputs: Sequence[str], feeds: dict[str, np.ndarray], places: np.ndarray
) -> dict[str, np.ndarray]:
    """The outputs by name for one batch, whose rows have these positions in the data set. Raises `GraphStopped`."""
    try:
        arrays: list[np.ndarray] = runner.run(list(outputs), feeds)
    except Exception as error:  # pybind raises a class per status code, all direct children of Exception
        where = f"row {places[0]}" if len(places) == 1 else f"{len(places)} rows from row {places[0]}"
        raise GraphStopped(f"The float model stops on {where} of the data set: {without_paths(error)}") from error
    return dict(zip(outputs, arrays, strict=True))
