"""Training batches: rows in any order as tensors, streamed from disk or, where they are few, kept in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from worker.engine.data.rows import Batch as StoredBatch
from worker.engine.data.rows import Rows

CACHE_BYTES = 256 * 1024**2
"""Preprocessed rows up to this size are read once; more are read again in every epoch."""
LOAD_ROWS = 256
LABEL_ROWS = 65_536


@dataclass(frozen=True)
class Batch:
    """Some rows, on the device that trains."""

    inputs: Mapping[str, Tensor]
    """By name, `[rows, *sample]`."""
    labels: Tensor | None
    """`[rows, ...]`; int64 where they are integers."""
    source: "Source"
    rows: np.ndarray
    """Where these rows are in the source, int64: 0 is its first."""

    def __len__(self) -> int:
        return len(self.rows)


class Source:
    """Rows of one role, to be asked for in any order, as often as wanted."""

    def __init__(self, rows: Rows, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Read `rows`; they are kept if they take no more than `cache_bytes` when preprocessed."""
        self._rows, self._cache_bytes = rows, cache_bytes
        self._kept: StoredBatch | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, order: np.ndarray, size: int, device: Literal["cpu", "cuda"] = "cpu") -> Iterator[Batch]:
        """Yield the rows at the positions `order`, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            inputs, labels = self._take(positions)
            yield Batch(
                {name: torch.from_numpy(array).to(device) for name, array in inputs.items()},
                None if labels is None else _label_tensor(labels).to(device),
                self,
                positions,
            )

    def in_order(self, size: int, device: Literal["cpu", "cuda"] = "cpu") -> Iterator[Batch]:
        """Yield every row once, from first to last."""
        return self.batches(np.arange(len(self)), size, device)

    def part(self, positions: np.ndarray) -> "Source":
        """The rows at these positions as a source of their own."""
        return Source(replace(self._rows, indices=self._rows.indices[positions]), cache_bytes=self._cache_bytes)

    def label_blocks(self) -> Iterator[np.ndarray]:
        """The labels alone, `[rows, ...]`, some rows at a time; nothing if there are none."""
        stored = self._rows.labels
        if stored is None:
            return
        for start in range(0, len(self), LABEL_ROWS):
            yield stored.take(self._rows.indices[start : start + LABEL_ROWS])

    def _take(self, positions: np.ndarray) -> StoredBatch:
        if self._kept is None and self._fits():
            self._kept = _concatenated(list(self._rows.batches(LOAD_ROWS)))
        if self._kept is not None:
            inputs, labels = self._kept
            return {name: array[positions] for name, array in inputs.items()}, (
                None if labels is None else labels[positions]
            )
        wanted = replace(self._rows, indices=self._rows.indices[positions])
        return next(wanted.batches(len(positions)))

    def _fits(self) -> bool:
        inputs, labels = next(replace(self._rows, indices=self._rows.indices[:1]).batches(1))
        row = sum(array.nbytes for array in inputs.values()) + (0 if labels is None else labels.nbytes)
        return row * len(self) <= self._cache_bytes


def _concatenated(batches: list[StoredBatch]) -> StoredBatch:
    labels = [label for _, label in batches if label is not None]
    inputs = {name: np.concatenate([inputs[name] for inputs, _ in batches]) for name in batches[0][0]}
    return inputs, np.concatenate(labels) if labels else None


def _label_tensor(labels: np.ndarray) -> Tensor:
    kind = np.float32 if labels.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(labels, kind))


def filled_up(order: np.ndarray, size: int) -> np.ndarray:
    """The positions, with as many of them again as make whole batches of `size`."""
    return np.resize(order, -(-len(order) // size) * size)
