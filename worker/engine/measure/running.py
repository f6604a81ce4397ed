"""ONNX Runtime as a function of named arrays, and the pairing of two models on the same rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from worker.engine.data.rows import Batch
from worker.engine.measure.errors import ModelRunFailed

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
Session = Any
"""An `onnxruntime.InferenceSession`; an untyped library, which `worker.engine.onnx_graph.sessions` alone imports."""


@dataclass(frozen=True)
class PairedOutputs:
    """What both models answered for the same rows; the rows lie on the first axis of every array."""

    before: Arrays
    after: Arrays
    labels: np.ndarray | None


def runner(session: Session, constants: Mapping[str, np.ndarray] = MappingProxyType({})) -> Run:
    """A function from inputs to outputs by name; arrays that are no input are ignored. Raises `ModelRunFailed`.

    `constants` are given in place of initializers that are inputs as well, as they are at the time of each run.
    """
    inputs = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]

    def run(feeds: Arrays) -> Arrays:
        try:
            wanted = {name: np.ascontiguousarray(feeds[name]) for name in inputs}
        except KeyError as missing:
            raise ModelRunFailed(f"The data has no array for input {missing}.") from missing
        try:
            return dict(zip(outputs, session.run(outputs, {**wanted, **constants}), strict=True))
        except Exception as error:  # pybind raises a class per status, all direct children of Exception
            raise ModelRunFailed(f"ONNX Runtime stopped: {str(error)[:500]}") from error

    return run


def filled(feeds: Arrays, size: int) -> Arrays:
    """The rows of `feeds`, repeated in order until there are `size` of them."""
    return {name: rows[np.arange(size) % len(rows)] if rows.ndim else rows for name, rows in feeds.items()}


def paired(before: Run, after: Run, batches: Iterator[Batch], size: int) -> Iterator[PairedOutputs]:
    """Run both models on each batch; a batch of fewer rows than `size` is filled up and its answers are cut."""
    for feeds, labels in batches:
        rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
        full = feeds if rows >= size else filled(feeds, size)
        yield PairedOutputs(_cut(before(full), rows, size), _cut(after(full), rows, size), labels)


def _cut(outputs: Arrays, rows: int, size: int) -> Arrays:
    if rows >= size:
        return outputs
    return {name: array[:rows] if array.shape[:1] == (size,) else array for name, array in outputs.items()}
