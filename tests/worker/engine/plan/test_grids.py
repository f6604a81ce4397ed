"""Grids of stored weights: zeros that are meant have a code of their own."""

from collections.abc import Callable

import numpy as np
import pytest

from worker.engine.plan.grids import BlockGrid, GridShape, coded, fit_half_quadratic, fit_least_squares
from worker.engine.plan.layout import Layout
from worker.engine.quantization.weights.gptq import compensated

RANDOM = np.random.default_rng(0)
PRUNED = RANDOM.standard_normal((16, 96)).astype(np.float32)
PRUNED[RANDOM.random(PRUNED.shape) < 0.1] = 0
PRUNED[1], PRUNED[2], PRUNED[3] = np.abs(PRUNED[1]), -np.abs(PRUNED[2]), 0
LAYOUT = Layout((0, 1), PRUNED.shape, 1)


@pytest.mark.parametrize("fit", [fit_least_squares, fit_half_quadratic])
@pytest.mark.parametrize("kind", ["symmetric", "moved"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zeros_stay_zero_and_the_others_as_near(bits: int, kind: str, fit: Callable[..., BlockGrid]) -> None:
    symmetric = kind == "symmetric"
    inputs = RANDOM.standard_normal((96, 200))
    shape = GridShape(bits, 32, symmetric=symmetric, keeps_zero=True)
    grid = fit(PRUNED, shape)
    rounded = coded(PRUNED, LAYOUT, grid).values()
    made_up_for = compensated(PRUNED, LAYOUT, grid, inputs @ inputs.T, keep_zeros=True).values()
    moved = coded(PRUNED, LAYOUT, fit_least_squares(PRUNED, GridShape(bits, 32, symmetric=symmetric))).values()

    assert not rounded[PRUNED == 0].any()
    assert not made_up_for[PRUNED == 0].any()
    assert np.square(rounded - PRUNED).mean() < 1.1 * np.square(moved - PRUNED).mean()
