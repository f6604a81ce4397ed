"""Parity against whole-array oracles, streamed in any batch size."""

import tracemalloc

import numpy as np
import pytest

from worker.engine.measure.errors import OutputMissing
from worker.engine.measure.parity import LARGEST_DB, Parity
from worker.engine.measure.running import Pair


def compared(before: np.ndarray, after: np.ndarray, batch: int) -> Parity:
    parity = Parity()
    for start in range(0, len(before), batch):
        parity.add(Pair({"s": before[start : start + batch]}, {"s": after[start : start + batch]}, None))
    return parity


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_figures_against_numpy(batch: int) -> None:
    rng = np.random.default_rng(1)
    before = rng.standard_normal((100, 10)).astype(np.float32)
    after = (before + 0.05 * rng.standard_normal((100, 10))).astype(np.float32)

    (output,) = compared(before, after, batch).outputs()

    x, y = before.astype(np.float64), after.astype(np.float64)
    assert output.sqnr_db == pytest.approx(10 * np.log10((x**2).sum() / ((y - x) ** 2).sum()))
    assert output.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    assert output.max_abs == pytest.approx(np.abs(y - x).max())
    assert output.top1_agreement == (x.argmax(1) == y.argmax(1)).mean()
    assert output.rows == 100
    assert output.non_finite == 0


def test_equal_outputs_have_no_ratio() -> None:
    (output,) = compared(np.ones((4, 3)), np.ones((4, 3)), 2).outputs()

    assert (output.sqnr_db, output.max_abs, output.cosine, output.top1_agreement) == (None, 0, pytest.approx(1), 1)


def test_extremes_stay_finite() -> None:
    (silent,) = compared(np.zeros((4, 3)), np.ones((4, 3)), 2).outputs()
    (huge,) = compared(np.full((4, 3), 1e200), np.full((4, 3), -1e200), 2).outputs()

    assert silent.sqnr_db == -LARGEST_DB
    assert silent.cosine == 0
    assert huge.sqnr_db == pytest.approx(-6.02, abs=0.01)
    assert huge.cosine == pytest.approx(-1)
    assert huge.non_finite == 0


def test_values_that_are_not_finite_are_counted_where_the_original_has_some() -> None:
    before = np.array([[1.0, 2.0], [np.inf, 1.0], [3.0, 4.0]])
    after = np.array([[1.0, np.nan], [np.inf, 1.0], [3.0, np.inf]])

    (output,) = compared(before, after, 2).outputs()

    assert output.non_finite == 2
    assert output.sqnr_db is None, "what is finite on both sides is equal"
    assert output.top1_agreement == 0


def test_only_scores_have_an_answer() -> None:
    (output,) = compared(np.ones((4, 3, 2)), np.ones((4, 3, 2)), 2).outputs()

    assert output.top1_agreement is None


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_integers_and_booleans_agree_row_by_row(dtype: type, shape: tuple[int, ...]) -> None:
    before = np.ones(shape, dtype)
    after = before.copy()
    after[(1, *[0] * (len(shape) - 1))] = 0

    parity = compared(before, after, 3)

    assert parity.outputs()[0].top1_agreement == 0.75
    assert parity.outputs()[0].max_abs == 1
    assert parity.discrete == {"s"}
    assert compared(before, before, 3).outputs()[0].sqnr_db is None


def test_another_shape_is_noted_and_a_missing_output_refused() -> None:
    parity = Parity()
    parity.add(Pair({"boxes": np.ones((5, 4))}, {"boxes": np.ones((6, 4))}, None))

    assert parity.outputs() == ()
    assert "'boxes'" in parity.notes()[0]
    with pytest.raises(OutputMissing):
        parity.add(Pair({"boxes": np.ones((5, 4))}, {"other": np.ones((5, 4))}, None))


def test_memory_does_not_grow_with_the_rows() -> None:
    parity, batch = Parity(), np.ones((16, 1000), np.float32)
    parity.add(Pair({"s": batch}, {"s": batch}, None))
    tracemalloc.start()
    for _ in range(300):
        parity.add(Pair({"s": batch}, {"s": batch}, None))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept < 20_000
    assert parity.outputs()[0].rows == 301 * 16
