"""Codes that make up for each other's errors on the inputs that were seen."""

import numpy as np
import torch

from worker.engine.plan.grids import BlockGrid, CodedWeight
from worker.engine.plan.layout import Layout

DAMPING = 0.01
"""Share of the mean moment added to each: the paper's."""
LAZY = 128
"""Columns after which the rest of a row takes over their errors, in one product."""


def compensated(
    matrix: np.ndarray, layout: Layout, grid: BlockGrid, moments: np.ndarray, *, keep_zeros: bool = False
) -> CodedWeight:
    """Codes of float32 `[rows, columns]`, column by column: what rounding one changes, the others take back.

    E. Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022.
    `moments` is the sum of x x^T over inputs x, `[columns, columns]`. Columns with the largest inputs go first; the
    grids stay as they are, and zeros, if they are to be kept. All inputs are those of the float model.
    """
    width = grid.shape.width(layout.columns)
    # Columns in the order of their inputs' size, and what each error does to the columns behind it.
    order = np.argsort(-np.diag(moments), kind="stable")
    factor = torch.from_numpy(_factor(moments[np.ix_(order, order)]))
    rest = torch.from_numpy(matrix[:, order].astype(np.float32))
    scale, zero = (np.broadcast_to(part, grid.scales.shape)[:, :, 0] for part in (grid.scale, grid.zero))
    scales, zeros = (torch.from_numpy(np.ascontiguousarray(part[:, order // width])) for part in (scale, zero))
    kept = rest == 0 if keep_zeros else None
    codes = torch.empty_like(rest)
    # Round column by column; within a stretch its columns take over each error at once, the rest all of them together.
    for start in range(0, layout.columns, LAZY):
        end = min(start + LAZY, layout.columns)
        part, errors = rest[:, start:end].clone(), torch.empty(len(rest), end - start)
        for place, column in enumerate(range(start, end)):
            value, s, z = part[:, place], scales[:, column], zeros[:, column]
            code = (value / s + z).round().clamp(0, grid.shape.highest)
            if kept is not None:
                code = torch.where(kept[:, column], z, code)
            codes[:, column] = code
            error = (value - (code - z) * s) / factor[column, column]
            part[:, place:] -= error[:, None] * factor[column, column:end]
            errors[:, place] = error
        rest[:, end:] -= errors @ factor[start:end, end:]
    # Back into the weight's own order of columns, and into blocks.
    filled = np.zeros((len(matrix), grid.scales.shape[1] * width), np.uint8)
    filled[:, order] = codes.numpy()
    return CodedWeight(layout, grid, filled.reshape(len(matrix), -1, width))


def _factor(moments: np.ndarray) -> np.ndarray:
    """The upper Cholesky factor of the damped moments' inverse, float32."""
    damped = moments.copy()
    diagonal = np.diag(damped)
    unseen = diagonal == 0
    np.fill_diagonal(damped, np.where(unseen, 1.0, diagonal + DAMPING * max(diagonal.mean(), np.finfo(float).tiny)))
    lower = torch.linalg.cholesky(torch.from_numpy(damped))
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True).float().numpy()
