"""The scale found is the best of those tried, whatever the form of the groups."""

import numpy as np
import pytest

from worker.engine.plan.clip_search import CHUNK, SHARES, best_scale

RANDOM = np.random.default_rng(0)


def squared_error(values: np.ndarray, scale: np.ndarray, codes: tuple[int, int], zero: float) -> np.ndarray:
    rounded = (np.clip(np.round(values / scale + zero), *codes) - zero) * scale
    return np.square(rounded - values).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("codes", "zero"), [((-8, 7), 0.0), ((0, 15), 6.3), ((-2, 1), 0.0)])
@pytest.mark.parametrize("shape", [(6, 50), (4, 3, 32), (3, CHUNK // 2)])
def test_no_other_share_of_a_group_is_better(shape: tuple[int, ...], codes: tuple[int, int], zero: float) -> None:
    values = RANDOM.standard_t(4, shape).astype(np.float32)
    whole = np.abs(values).max(axis=-1, keepdims=True) / np.float32(max(codes[1] - zero, 1))

    found = best_scale(values, whole, codes, zero)

    assert found.shape == whole.shape
    assert found.dtype == whole.dtype
    least = np.min([squared_error(values, whole * share, codes, zero) for share in SHARES], axis=0)
    assert squared_error(values, found, codes, zero) == pytest.approx(least, rel=1e-4)
    assert (found < whole).any(), "few codes are worth a clip"


def test_zeros_keep_the_whole_range() -> None:
    assert best_scale(np.zeros((2, 8), np.float32), np.ones((2, 1), np.float32), (-8, 7)).tolist() == [[1], [1]]
