"""How far the outputs of a changed model are from the original's, on the same rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.spec.signature import Signature
from worker.engine.data.rows import Rows
from worker.engine.measure.batching import BatchRange
from worker.engine.measure.errors import MetricNotApplicable
from worker.engine.measure.metrics.top_k import class_labels, within
from worker.engine.measure.running import Arrays, Run, filled
from worker.engine.quantization.errors import CalibrationFailed
from worker.engine.quantization.statistics.batches import BATCH

DROWNED = 1e30
"""The same above which nothing of the signal is left, as where values are no longer finite: -300 decibels."""
SILENT = 1e-30
"""Noise power, relative to the signal, below which it is called this: decibels end at 300."""


@dataclass(frozen=True)
class OutputLoss:
    """What one model does differently."""

    noise: float
    """Power of the difference relative to that of the original's outputs, as a mean over the outputs."""
    right_answers: float | None
    """Share of rows whose label has the highest score of the first output that they fit; None without class labels."""

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise, in decibels."""
        return decibels(self.noise)


def decibels(noise: float) -> float:
    """Signal to noise for a relative power of noise."""
    return float(-10 * np.log10(max(noise, SILENT)))


class ReferenceOutputs:
    """The original's outputs on some rows, kept on disk, and their labels."""

    def __init__(self, original: Run, rows: Rows, signature: Signature, scratch: Path) -> None:
        """Run the original. Raises `CalibrationFailed`, `ModelRunFailed`."""
        if not len(rows):
            raise CalibrationFailed("There are no rows to measure on.")
        self._rows, self._size = rows, BatchRange.of(signature).nearest(BATCH)
        self._kept: list[tuple[Path, dict[str, float]]] = []
        self._labelled = True
        self._scores: str | None = None
        right = 0
        for number, (outputs, labels) in enumerate(self._answers(original)):
            compared = {name: array for name, array in outputs.items() if np.issubdtype(array.dtype, np.floating)}
            path = scratch / f"outputs-{len(rows)}-{number}.npz"
            np.savez(path, **compared)  # type: ignore[arg-type]  # its stub takes a name for the option
            self._kept.append((path, {name: _power(array) for name, array in compared.items()}))
            hits = self._hits(outputs, labels)
            self._labelled = self._labelled and hits is not None
            right += hits or 0
        self.right_answers = right / len(rows) if self._labelled else None

    def read(self, changed: Run) -> OutputLoss:
        """Run another model with the same inputs and outputs. Raises `ModelRunFailed`."""
        signal: Counter[str] = Counter()
        noise: Counter[str] = Counter()
        right = 0
        for (path, powers), (outputs, labels) in zip(self._kept, self._answers(changed), strict=True):
            signal.update(powers)
            with np.load(path) as exact:
                noise.update({name: _noise(exact[name], outputs[name]) for name in powers})
            right += self._hits(outputs, labels) or 0
        shares = [min(noise[name] / max(power, np.finfo(float).tiny), DROWNED) for name, power in signal.items()]
        return OutputLoss(
            float(np.mean(shares)) if shares else 0.0, right / len(self._rows) if self._labelled else None
        )

    def _answers(self, model: Run) -> Iterator[tuple[Arrays, np.ndarray | None]]:
        for arrays, labels in self._rows.batches(self._size):
            count = max((len(array) for array in arrays.values() if array.ndim), default=1)
            outputs = model(filled(arrays, self._size) if count < self._size else arrays)
            yield {name: array[:count] for name, array in outputs.items()}, labels

    def _hits(self, outputs: Arrays, labels: np.ndarray | None) -> int | None:
        """Rows whose label has the highest score; None where the labels are no classes of any output."""
        if labels is None:
            return None
        for name in outputs if self._scores is None else (self._scores,):
            try:
                hits = int(within(outputs[name], class_labels(outputs[name], labels), 1).sum())
            except MetricNotApplicable:
                continue
            self._scores = name
            return hits
        return None


def _noise(exact: np.ndarray, changed: np.ndarray) -> float:
    """Sum of squared differences; infinite if a value is no longer finite."""
    if not np.isfinite(changed[np.isfinite(exact)]).all():
        return float("inf")
    return _power(changed - exact)


def _power(array: np.ndarray) -> float:
    """Sum of squares of what is finite."""
    wide = array.astype(np.float64).reshape(-1)
    return float(np.square(wide[np.isfinite(wide)]).sum())
