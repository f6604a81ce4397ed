"""How closely the delivered model's outputs follow the original's, in memory that does not grow with the rows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite, log10

import numpy as np

from app.spec.report import OutputParity
from app.spec.units import counted
from worker.engine.measure.class_axes import probability_axis
from worker.engine.measure.errors import OutputMissing
from worker.engine.measure.intervals import effective_rows, ratio_margin, share_interval
from worker.engine.measure.running import PairedOutputs

LARGEST_DB = 300.0
"""Ratios beyond this are written as this: a report holds no infinities."""
LARGEST_VALUE = 1e70
"""Larger float64 values are compared as this: sums of their fourth powers would overflow. float32 ends at 3.4e38."""


@dataclass
class Likeness:
    """Running sums over pairs of arrays; only values that are finite on both sides are compared."""

    rows: int = 0
    values: int = 0
    signal: float = 0.0
    answer: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0
    non_finite: int = 0
    """Values that are not finite on one side alone, or not the same infinity."""
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """Sums over the rows of noise², signal² and noise times signal."""

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Take in two arrays of one shape, rows first."""
        rows = before.shape[0] if before.ndim else 1
        x, y = _wide(before, rows), _wide(after, rows)
        usable = np.isfinite(x) & np.isfinite(y)
        if not usable.all():
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            self.non_finite += int((~usable & ~same).sum())
            x, y = np.where(usable, x, 0.0), np.where(usable, y, 0.0)
        error = y - x
        noise, signal = np.einsum("rv,rv->r", error, error), np.einsum("rv,rv->r", x, x)
        self.rows += rows
        self.values += int(usable.sum())
        self.signal += float(signal.sum())
        self.answer += float(np.vdot(y, y))
        self.product += float(np.vdot(x, y))
        self.noise += float(noise.sum())
        self.squares += (noise @ noise, signal @ signal, noise @ signal)
        self.max_abs = max(self.max_abs, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(signal power / noise power); None where there is no noise."""
        return None if self.noise == 0 else _decibels(self.noise, self.signal)

    @property
    def sqnr_low_db(self) -> float | None:
        """The lower end of its 95 % interval, from how the rows differ; None where there is no noise."""
        if self.noise == 0:
            return None
        if self.signal == 0:
            return -LARGEST_DB
        ratio = self.noise / self.signal
        above, below, both = map(float, self.squares)
        margin = ratio_margin(ratio, (above, below, both), self.signal, self.rows)
        return _decibels(ratio + margin, 1.0) if isfinite(margin) else -LARGEST_DB

    @property
    def cosine(self) -> float:
        """Cosine of all values as two vectors; 1 where both are zero."""
        length = self.signal**0.5 * self.answer**0.5
        if length == 0:
            return 1.0 if self.noise == 0 else 0.0
        return min(1.0, max(-1.0, self.product / length))


@dataclass
class Agreement:
    """Answers that both models give alike: a class for each row, token or pixel, or a value of an integer output."""

    answers: int = 0
    alike: int = 0
    rows: int = 0
    shares: float = 0.0
    squares: float = 0.0
    """Sums of the rows' shares of equal answers and of their squares."""

    def add(self, same: np.ndarray) -> None:
        """Take in, bool `[rows, ...]`, which answers are alike."""
        by_row = same.reshape(same.shape[0] if same.ndim else 1, -1)
        if not by_row.size:
            return
        shares = by_row.mean(axis=1)
        self.answers += by_row.size
        self.alike += int(by_row.sum())
        self.rows += len(by_row)
        self.shares += float(shares.sum())
        self.squares += float(shares @ shares)

    @property
    def share(self) -> float | None:
        """None where there are no answers."""
        return self.alike / self.answers if self.answers else None

    @property
    def independent(self) -> float:
        """How many independent answers these are worth: tokens of one text fail together."""
        return effective_rows(self.shares, self.squares, self.rows, self.answers) if self.rows else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share; None where there are no answers."""
        return None if self.share is None else share_interval(self.share, self.independent)


@dataclass
class Parity:
    """Compares every output, pair by pair; integers, booleans and texts count as answers, equal or not."""

    class_axes: Mapping[str, int] = field(default_factory=dict)
    """The axis of the classes of outputs that are scores; probabilities are recognised besides, by their sums."""
    values_only: Collection[str] = ()
    """Outputs that are known to be no scores."""
    likeness: dict[str, Likeness] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)
    discrete: set[str] = field(default_factory=set)
    """Outputs of integers, booleans or texts: their agreement says how alike they are, not their distance."""
    reshaped: set[str] = field(default_factory=set)
    """Outputs whose shape differed on some rows, as in a detector that finds other boxes: not comparable."""
    found_axes: dict[str, int | None] = field(default_factory=dict)

    def add(self, pair: PairedOutputs) -> None:
        """Take in both models' answers. Raises `OutputMissing`."""
        for name, before in pair.before.items():
            if name not in pair.after:
                raise OutputMissing(f"The delivered model has no output named {name!r}.")
            after = pair.after[name]
            if before.shape != after.shape:
                self.reshaped.add(name)
            elif before.dtype.kind == "f":
                self.likeness.setdefault(name, Likeness()).add(before, after)
                self._compare_classes(name, before, after)
            elif before.dtype.kind == "c":
                parts = (np.stack((array.real, array.imag), axis=-1) for array in (before, after))
                self.likeness.setdefault(name, Likeness()).add(*parts)
            else:
                self.discrete.add(name)
                self.agreement.setdefault(name, Agreement()).add(before == after)
                if before.dtype.kind in "biu":
                    self.likeness.setdefault(name, Likeness()).add(before, after)

    def outputs(self) -> tuple[OutputParity, ...]:
        """One entry for each output that could be compared, in the model's order."""
        return tuple(
            self._output(name) for name in {**self.likeness, **self.agreement} if name not in self.uncomparable
        )

    @property
    def uncomparable(self) -> set[str]:
        """Outputs of which nothing can be said: another shape on some rows, or not one finite value to compare."""
        empty = {name for name, sums in self.likeness.items() if sums.rows and not sums.values and sums.non_finite == 0}
        return self.reshaped | empty

    def notes(self) -> tuple[str, ...]:
        """What could not be compared."""
        reshaped = (
            f"Output {name!r} had another shape than the original's on some rows and was not compared."
            for name in sorted(self.reshaped)
        )
        empty = (
            f"Output {name!r} has no finite value on {counted(self.likeness[name].rows, 'row')}, in the original "
            "either: there is nothing to compare. Test it on rows that it answers."
            for name in sorted(self.uncomparable - self.reshaped)
        )
        return (*reshaped, *empty)

    def _compare_classes(self, name: str, before: np.ndarray, after: np.ndarray) -> None:
        if name not in self.found_axes:
            axis = self.class_axes.get(name)
            if axis is None and name not in self.values_only:
                axis = probability_axis(before)
            self.found_axes[name] = axis if axis is not None and axis < before.ndim else None
        axis = self.found_axes[name]
        if axis is not None and before.shape[axis] > 1:
            same = before.argmax(axis=axis) == after.argmax(axis=axis)
            broken = (~np.isfinite(after) & (after != before)).any(axis=axis)
            self.agreement.setdefault(name, Agreement()).add(same & ~broken)

    def _output(self, name: str) -> OutputParity:
        agreement = self.agreement.get(name, Agreement())
        low, high = agreement.interval or (None, None)
        sums = self.likeness.get(name) or _of_texts(agreement)
        return OutputParity(
            output=name,
            rows=sums.rows,
            sqnr_db=sums.sqnr_db,
            sqnr_low_db=sums.sqnr_low_db,
            cosine=sums.cosine,
            max_abs=sums.max_abs,
            top1_agreement=agreement.share,
            agreement_low=low,
            agreement_high=high,
            class_axis=self.found_axes.get(name),
            answers=agreement.answers or None,
            independent_answers=agreement.independent or None,
            non_finite=sums.non_finite,
        )


def _of_texts(agreement: Agreement) -> Likeness:
    """Texts have no distance: as far as a figure is needed, an answer that differs is one off."""
    differing = float(agreement.answers - agreement.alike)
    return Likeness(agreement.rows, agreement.answers, agreement.answers, agreement.answers, agreement.alike, differing)


def _wide(array: np.ndarray, rows: int) -> np.ndarray:
    """A float64 copy `[rows, values]` whose finite values can be squared and added up."""
    wide = array.astype(np.float64).reshape(rows, -1) if array.size else np.zeros((rows, 0))
    if array.dtype == np.float64:
        np.clip(wide, -LARGEST_VALUE, LARGEST_VALUE, out=wide, where=np.isfinite(wide))
    return wide


def _decibels(noise: float, signal: float) -> float:
    if signal == 0:
        return -LARGEST_DB
    return float(np.clip(10 * (log10(signal) - log10(noise)), -LARGEST_DB, LARGEST_DB))
