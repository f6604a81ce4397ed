"""Weights on uniform grids: every block of a row has a scale and a zero of its own, value = scale * (code - zero)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from worker.engine.plan.clip_search import CHUNK, best_scale
from worker.engine.plan.layout import Layout

HALF_RANGE = (2.0**-14, 2.0**15)
"""Scales within are stored as float16 at its full precision of 11 bits."""
SEARCHED_BITS = 6
"""From here on the whole range is taken."""
HQQ_NORM, HQQ_PENALTY, HQQ_GROWTH, HQQ_ROUNDS = 0.7, 10.0, 1.01, 20
"""p of the norm that errors are measured in, beta and its growth in each round: the paper's."""

Ends = tuple[np.ndarray, np.ndarray]
"""Scale and zero of each block, float32 `[rows, blocks, 1]`."""


@dataclass(frozen=True)
class GridShape:
    """What a grid is asked to be: bits, group size, symmetry."""

    bits: int
    block: int | None
    """Weights with a scale of their own, at most; None: a whole row."""
    symmetric: bool
    """Zero has the code 2**(bits-1), and stays exactly zero."""
    keeps_zero: bool = False
    """Zero has a code in grids that are not symmetric, too, and stays exactly zero."""

    @property
    def highest(self) -> int:
        """The last code; the first is 0."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The code of zero in a symmetric grid."""
        return 1 << (self.bits - 1)

    def width(self, columns: int) -> int:
        """Weights in a block: a row is cut into blocks of one size, as few as the limit allows."""
        blocks = -(-columns // (self.block or columns))
        return -(-columns // blocks)


@dataclass(frozen=True, eq=False)
class BlockGrid:
    """The grids of a matrix's blocks, as they are stored."""

    shape: GridShape
    scales: np.ndarray
    """float16 or float32 `[rows, blocks, 1]`, positive."""
    zeros: np.ndarray | None
    """Where zero lies among the codes, no whole number, float16 `[rows, blocks, 1]`; None: symmetric."""

    @property
    def scale(self) -> np.ndarray:
        """The scales, float32."""
        return self.scales.astype(np.float32)

    @property
    def zero(self) -> np.ndarray:
        """The zeros, float32."""
        middle = np.full((1, 1, 1), self.shape.middle, np.float32)
        return middle if self.zeros is None else self.zeros.astype(np.float32)

    def nearest(self, blocks: np.ndarray) -> np.ndarray:
        """The codes, uint8, next to float32 `[rows, blocks, width]`."""
        return np.clip(np.rint(blocks / self.scale + self.zero), 0, self.shape.highest).astype(np.uint8)

    def values(self, codes: np.ndarray) -> np.ndarray:
        """What codes stand for, float32."""
        return (codes.astype(np.float32) - self.zero) * self.scale


@dataclass(frozen=True, eq=False)
class CodedWeight:
    """A weight as codes; `values` is what the delivered model computes with."""

    layout: Layout
    grid: BlockGrid
    codes: np.ndarray
    """uint8 `[rows, blocks, width]`; the last block is filled up."""

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.grid.shape.bits

    def matrix(self) -> np.ndarray:
        """The values, float32 `[rows, columns]`."""
        values = self.grid.values(self.codes)
        return values.reshape(len(values), -1)[:, : self.layout.columns]

    def values(self) -> np.ndarray:
        """The values, float32, in the shape of the tensor they replace."""
        return self.layout.tensor(self.matrix())


def fit_least_squares(matrix: np.ndarray, shape: GridShape) -> BlockGrid:
    """For each block of float32 `[rows, columns]` the range, of those tried, with the least squared error."""
    return _fit(matrix, shape, lambda blocks: _least_squares(blocks, shape))


def fit_half_quadratic(matrix: np.ndarray, shape: GridShape) -> BlockGrid:
    """Zeros are moved until the errors are sparse: a few large ones harm less than many middling ones.

    H. Badri, A. Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023: errors are split into a
    sparse part, found by a soft threshold for the p-norm, and a rest that the zero is solved for. They are counted in
    steps of the grid here, so that the threshold means the same for every layer. Needs no data.
    """
    return _fit(matrix, shape, lambda blocks: _half_quadratic(blocks, shape))


def coded(matrix: np.ndarray, layout: Layout, grid: BlockGrid) -> CodedWeight:
    """The weight with each value rounded to the nearest code."""
    blocks = in_blocks(matrix, grid.shape.width(layout.columns))
    return CodedWeight(layout, grid, grid.nearest(blocks))


def in_blocks(matrix: np.ndarray, width: int) -> np.ndarray:
    """`[rows, blocks, width]`; a last block that is too short repeats its row's last value."""
    missing = -matrix.shape[1] % width
    if missing:
        matrix = np.concatenate([matrix, np.repeat(matrix[:, -1:], missing, axis=1)], axis=1)
    return matrix.reshape(len(matrix), -1, width)


def _fit(matrix: np.ndarray, shape: GridShape, solve: Callable[[np.ndarray], Ends]) -> BlockGrid:
    width = shape.width(matrix.shape[1])
    ends = [solve(in_blocks(rows, width)) for rows in _chunks(matrix)]
    scales, zeros = (np.concatenate(part) for part in zip(*ends, strict=True))
    blockwise = scales.shape[1] > 1
    if blockwise and HALF_RANGE[0] <= scales.min() and scales.max() <= HALF_RANGE[1]:
        scales = scales.astype(np.float16)
    return BlockGrid(shape, scales, None if shape.symmetric else zeros.astype(np.float16))


def _chunks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, CHUNK // matrix.shape[1])
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows]


def _ends(blocks: np.ndarray, shape: GridShape) -> Ends:
    """The grid over a block's whole range and zero."""
    low = np.minimum(blocks.min(axis=2, keepdims=True), 0)
    high = np.maximum(blocks.max(axis=2, keepdims=True), 0)
    if shape.symmetric:
        scale = np.maximum(-low, high) / np.float32(shape.highest - shape.middle)
        zero = np.full_like(scale, shape.middle)
    else:
        scale = (high - low) / np.float32(shape.highest)
        zero = -low / np.where(scale > 0, scale, 1)
        if shape.keeps_zero:
            zero = np.clip(np.rint(zero), low < 0, shape.highest - (high > 0))
            scale = np.maximum(-low / np.maximum(zero, 1), high / np.maximum(shape.highest - zero, 1))
    return np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1)), zero


def _least_squares(blocks: np.ndarray, shape: GridShape) -> Ends:
    whole, zero = _ends(blocks, shape)
    if shape.bits >= SEARCHED_BITS:
        return whole, zero
    return best_scale(blocks, whole, (0, shape.highest), zero), zero


def _half_quadratic(blocks: np.ndarray, shape: GridShape) -> Ends:
    scale, zero = _least_squares(blocks, shape)
    steps = blocks / scale
    best, least, penalty = zero, np.full_like(zero, np.inf), HQQ_PENALTY
    for _ in range(HQQ_ROUNDS):
        codes = np.clip(np.rint(steps + zero), 0, shape.highest)
        error = steps - (codes - zero)
        size = np.maximum(np.abs(error), np.float32(1e-6))
        norm = (size**HQQ_NORM).mean(axis=2, keepdims=True)
        best, least = np.where(norm < least, zero, best), np.minimum(norm, least)
        sparse = np.sign(error) * np.maximum(size - size ** (HQQ_NORM - 1) / penalty, 0)
        zero = (codes - (steps - sparse)).mean(axis=2, keepdims=True)
        penalty *= HQQ_GROWTH
    return scale, np.clip(np.rint(best), 0, shape.highest) if shape.keeps_zero else best
