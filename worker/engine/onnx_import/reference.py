"""ONNX Runtime on the uploaded file: what the imported program is held against."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.data.synthetic import at_least, batch_names, example_batch
from worker.engine.onnx_graph.sessions import ort, session
from worker.engine.onnx_import.errors import ImportFailed

EXAMPLE_ROWS = 3
FREE_SIZES = (16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512, 576)
"""Tried in this order for dimensions that vary: networks want multiples of 32, say, or no less than some size."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """Inputs that the file runs on, and what it answers."""

    signature: Signature
    """The file's, its varying sizes with the least that is known to run."""
    inputs: Arrays
    outputs: Arrays


def examples_of(path: Path, signature: Signature, threads: int, seed: int) -> Iterator[Example]:
    """Yield inputs that ONNX Runtime takes and answers, the smallest first. Raises `LoadFailed`, `ImportFailed`."""
    runner = session(path, threads)
    names, ran = [tensor.name for tensor in signature.outputs], False
    reason, quietly = "", ort.RunOptions()
    quietly.log_severity_level = 4  # a size that does not fit is no event
    guesses = dict.fromkeys((signature, _with_states(signature)))
    for guess, size in itertools.product(guesses, FREE_SIZES):
        tried = guess if size == FREE_SIZES[0] else at_least(guess, size)
        inputs = example_batch(tried, EXAMPLE_ROWS, seed)
        try:
            outputs = runner.run(names, inputs, quietly)
        except Exception as error:  # noqa: BLE001  # pybind raises a class per status code, children of Exception
            reason = reason or str(error).splitlines()[0][-200:]
            continue
        if any(np.size(output) for output in outputs):
            ran = True
            yield Example(tried, inputs, dict(zip(names, outputs, strict=True)))
    if not ran:
        raise ImportFailed(f"ONNX Runtime does not run the file on inputs of its declared shapes: {reason}")


def _with_states(signature: Signature) -> Signature:
    """The signature if a varying second axis behind a fixed first one is the batch, as in the state of an LSTM."""
    batch = min(batch_names(signature), default=None)

    def guessed(tensor: TensorSpec) -> TensorSpec:
        if len(tensor.shape) < 2 or batch is None or isinstance(tensor.shape[0], Dimension):
            return tensor
        first, second, *rest = tensor.shape
        second = second.model_copy(update={"name": batch}) if isinstance(second, Dimension) else second
        return tensor.model_copy(update={"shape": (first, second, *rest)})

    return signature.model_copy(update={"inputs": tuple(guessed(tensor) for tensor in signature.inputs)})
