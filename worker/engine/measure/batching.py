"""How many rows a model takes at once, and rows for one that was given none."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.spec.batch import without_batch
from app.spec.signature import Signature
from worker.engine.data.rows import Batch, Rows
from worker.engine.data.synthetic import example_batch

UNBOUNDED = 1 << 20
SYNTHETIC_ROWS = 64


@dataclass(frozen=True)
class BatchRange:
    """The smallest and largest number of rows a model takes; equal where the batch is fixed."""

    low: int
    high: int

    @classmethod
    def of(cls, signature: Signature) -> "BatchRange":
        """Read from the first axis of every input that has one; one call at a time where these are no batch."""
        if without_batch(signature) is not None:
            return cls(1, 1)
        low, high = 1, UNBOUNDED
        for tensor in signature.inputs:
            if not tensor.shape:
                continue
            first = tensor.shape[0]
            if isinstance(first, int):
                return cls(first, first)
            low, high = max(low, first.min or 1), min(high, first.max or UNBOUNDED)
        return cls(low, high)

    def __contains__(self, batch: int) -> bool:
        return self.low <= batch <= self.high

    def nearest(self, batch: int) -> int:
        """The batch size closest to `batch` that the model takes."""
        return min(max(batch, self.low), self.high)

    def __str__(self) -> str:
        return f"fixed at {self.low}" if self.low == self.high else f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class SyntheticRows:
    """Made-up rows with the API of `Rows`. They exercise a model, no more."""

    signature: Signature
    seed: int
    rows: int = SYNTHETIC_ROWS

    def __len__(self) -> int:
        return self.rows

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the same rows every time, `size` at a time, never with labels."""
        for start in range(0, self.rows, size):
            yield example_batch(self.signature, min(size, self.rows - start), self.seed + start), None


AnyRows = Rows | SyntheticRows
