"""What coding did to each weight, as a report tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.spec.report import MOST_POINTS, Chart, Table
from worker.engine.context import Fact
from worker.engine.plan.layout import Weight
from worker.engine.report_bars import layer_bars


@dataclass(frozen=True)
class StoredWeight:
    """One weight, before and after."""

    name: str
    operator: str
    shape: tuple[int, ...]
    form: str
    """How it is stored, in words."""
    bytes: int
    signal: float
    noise: float
    """Sums of squares of the weight and of its error."""

    @classmethod
    def of(cls, weight: Weight, before: np.ndarray, after: np.ndarray, form: str, size: int) -> "StoredWeight":
        """Compare the float32 tensors; `size` is that of the stored form, in bytes."""
        noise = np.square(after - before, dtype=np.float64).sum()
        signal = np.square(before, dtype=np.float64).sum()
        return cls(weight.name, weight.operator, before.shape, form, size, float(signal), float(noise))

    @property
    def float_bytes(self) -> int:
        """Bytes of the weight as float32."""
        return 4 * int(np.prod(self.shape))

    @property
    def sqnr_db(self) -> float | None:
        """Signal to noise; None where nothing was lost."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise); None where there is no noise, or no signal."""
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else None


def facts(weights: Sequence[StoredWeight], total_bytes: int) -> dict[str, Fact]:
    """Sums over the weights; `total_bytes` is the size of all constants of the float model."""
    before, after = sum(weight.float_bytes for weight in weights), sum(weight.bytes for weight in weights)
    facts: dict[str, Fact] = {
        "weights": len(weights),
        "weight_bytes_before": before,
        "weight_bytes_after": after,
        "bits_per_weight": round(32 * after / before, 3),
        "share_of_constants": round(before / total_bytes, 4),
    }
    sqnr = decibels(sum(weight.signal for weight in weights), sum(weight.noise for weight in weights))
    return facts if sqnr is None else facts | {"weights_sqnr_db": round(sqnr, 2)}


def table(weights: Sequence[StoredWeight], title: str) -> Table:
    """A row for each weight, the largest first where there are too many."""
    shown = (
        sorted(weights, key=lambda weight: -weight.float_bytes)[:MOST_POINTS] if len(weights) > MOST_POINTS else weights
    )
    return Table(
        title=title,
        columns=("weight", "operator", "shape", "stored as", "bytes before", "bytes after", "SQNR, dB"),
        rows=tuple(
            (
                weight.name,
                weight.operator,
                " x ".join(map(str, weight.shape)),
                weight.form,
                weight.float_bytes,
                weight.bytes,
                None if weight.sqnr_db is None else round(weight.sqnr_db, 1),
            )
            for weight in shown
        ),
    )


def chart(weights: Sequence[StoredWeight]) -> Chart:
    """Signal to noise of each weight, in the order of the graph."""
    values = {"weights": [weight.sqnr_db for weight in weights]}
    names = [weight.name for weight in weights]
    return layer_bars("Signal to noise of each weight", "SQNR, dB", names, values, x_label="weight")
