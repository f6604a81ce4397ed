"""How closely the delivered model's outputs follow the original's, in memory that does not grow with the rows."""

from dataclasses import dataclass, field

import numpy as np

from app.spec.report import OutputParity
from worker.engine.measure.errors import OutputMissing
from worker.engine.measure.running import Pair

LARGEST_DB = 300.0
"""Ratios beyond this are written as this: a report holds no infinities."""
LARGEST_VALUE = 1e140
"""Larger float64 values are compared as this: their squares' sum would overflow. float32 ends at 3.4e38."""


@dataclass
class Likeness:
    """Running sums over pairs of arrays; only values that are finite on both sides are compared."""

    rows: int = 0
    signal: float = 0.0
    answer: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0
    non_finite: int = 0

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Take in two arrays of one shape, rows first."""
        x, y = _wide(before), _wide(after)
        finite = np.isfinite(x)
        if not (usable := finite & np.isfinite(y)).all():
            self.non_finite += int((finite & ~usable).sum())
            x, y = x[usable], y[usable]
        error = y - x
        self.rows += before.shape[0] if before.ndim else 1
        self.signal += float(x @ x)
        self.answer += float(y @ y)
        self.product += float(x @ y)
        self.noise += float(error @ error)
        self.max_abs = max(self.max_abs, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(signal power / noise power); None where there is no noise."""
        if self.noise == 0:
            return None
        ratio = self.signal / self.noise
        return float(np.clip(10 * np.log10(ratio), -LARGEST_DB, LARGEST_DB)) if ratio else -LARGEST_DB

    @property
    def cosine(self) -> float:
        """Cosine of all values as two vectors; 1 where both are zero."""
        length = self.signal**0.5 * self.answer**0.5
        if length == 0:
            return 1.0 if self.noise == 0 else 0.0
        return min(1.0, max(-1.0, self.product / length))


@dataclass
class Parity:
    """Compares every output of numbers, pair by pair; integers and booleans count as answers, equal or not."""

    likeness: dict[str, Likeness] = field(default_factory=dict)
    agreed: dict[str, int] = field(default_factory=dict)
    discrete: set[str] = field(default_factory=set)
    """Outputs of integers or booleans: their agreement says how alike they are, not their distance."""
    reshaped: set[str] = field(default_factory=set)
    """Outputs whose shape differed on some rows, as in a detector that finds other boxes: not comparable."""

    def add(self, pair: Pair) -> None:
        """Take in both models' answers. Raises `OutputMissing`."""
        for name, before in pair.before.items():
            if name not in pair.after:
                raise OutputMissing(f"The delivered model has no output named {name!r}.")
            after = pair.after[name]
            if before.shape != after.shape:
                self.reshaped.add(name)
            elif before.dtype.kind == "f":
                self.likeness.setdefault(name, Likeness()).add(before, after)
                if is_score(before):
                    same = (before.argmax(axis=1) == after.argmax(axis=1)) & np.isfinite(after).all(axis=1)
                    self.agreed[name] = self.agreed.get(name, 0) + int(same.sum())
            elif before.dtype.kind in "biu":
                self.discrete.add(name)
                self.likeness.setdefault(name, Likeness()).add(before, after)
                self.agreed[name] = self.agreed.get(name, 0) + _equal_rows(before, after)

    def outputs(self) -> tuple[OutputParity, ...]:
        """One entry for each output that could be compared, in the model's order."""
        return tuple(
            OutputParity(
                output=name,
                rows=sums.rows,
                sqnr_db=sums.sqnr_db,
                cosine=sums.cosine,
                max_abs=sums.max_abs,
                top1_agreement=self.agreed[name] / sums.rows if name in self.agreed and sums.rows else None,
                non_finite=sums.non_finite,
            )
            for name, sums in self.likeness.items()
            if name not in self.reshaped
        )

    def notes(self) -> tuple[str, ...]:
        """What could not be compared."""
        return tuple(
            f"Output {name!r} had another shape than the original's on some rows and was not compared."
            for name in sorted(self.reshaped)
        )


def _wide(array: np.ndarray) -> np.ndarray:
    """A flat float64 copy whose finite values can be squared and added up."""
    wide = array.astype(np.float64).ravel()
    if array.dtype == np.float64:
        np.clip(wide, -LARGEST_VALUE, LARGEST_VALUE, out=wide, where=np.isfinite(wide))
    return wide


def _equal_rows(before: np.ndarray, after: np.ndarray) -> int:
    """How many rows have the same values throughout."""
    equal = before == after
    return int(equal.all(axis=tuple(range(1, equal.ndim))).sum()) if equal.ndim else int(equal)


def is_score(output: np.ndarray) -> bool:
    """Whether an output looks like one score per class: `[rows, at least 2]`."""
    return output.ndim == 2 and output.shape[1] >= 2
