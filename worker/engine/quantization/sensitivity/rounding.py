"""Weights rounded to a few bits: the scales that lose least, and the rounded values."""

import numpy as np

from worker.engine.plan.clip_search import best_scale
from worker.engine.plan.plan import Grid

EIGHT = 127
"""The largest code of 8 bits: -128 is not used, so that the zero is in the middle, as ONNX Runtime's quantizer does."""


def grid_of(weight: np.ndarray, bits: int, axis: int | None) -> Grid:
    """Signed codes of 2 to 8 bits for a weight, with one scale for each channel along `axis`, or one for all (None).

    With 8 bits the largest weight has the largest code; with fewer, of several clips the one with the least squared
    error is taken, channel by channel.
    """
    rows = _rows(weight, axis)
    largest = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny)
    if bits == 8:
        return Grid(_tuple(largest / EIGHT), -EIGHT, EIGHT, axis=axis)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    scales = best_scale(rows, (largest / high)[:, None], (low, high))
    return Grid(_tuple(scales[:, 0]), low, high, axis=axis)


def rounded(weight: np.ndarray, grid: Grid) -> np.ndarray:
    """The weight's values as the grid's codes give them back, float32."""
    scale = np.array(grid.scales, np.float32)
    if grid.axis is not None:
        scale = scale.reshape([-1 if place == grid.axis % weight.ndim else 1 for place in range(weight.ndim)])
    return np.clip(np.rint(weight / scale), grid.low, grid.high).astype(np.float32) * scale


def _rows(weight: np.ndarray, axis: int | None) -> np.ndarray:
    """`[channels, weights of a channel]`, float64."""
    wide = weight.astype(np.float64)
    return wide.reshape(1, -1) if axis is None else np.moveaxis(wide, axis, 0).reshape(weight.shape[axis], -1)


def _tuple(scales: np.ndarray) -> tuple[float, ...]:
    return tuple(float(scale) for scale in scales.astype(np.float32))
