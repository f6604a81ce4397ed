"""Parity against whole-array oracles, streamed in any batch size."""

import tracemalloc

import numpy as np
import pytest

from worker.engine.measure.errors import OutputMissing
from worker.engine.measure.parity import LARGEST_DB, Parity
from worker.engine.measure.running import PairedOutputs


def compared(before: np.ndarray, after: np.ndarray, batch: int, axis: int | None = None) -> Parity:
    parity = Parity({} if axis is None else {"s": axis})
    for start in range(0, len(before), batch):
        parity.add(PairedOutputs({"s": before[start : start + batch]}, {"s": after[start : start + batch]}, None))
    return parity


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_figures_against_numpy(batch: int) -> None:
    rng = np.random.default_rng(1)
    before = rng.standard_normal((100, 10)).astype(np.float32)
    after = (before + 0.05 * rng.standard_normal((100, 10))).astype(np.float32)

    (output,) = compared(before, after, batch, axis=1).outputs()

    x, y = before.astype(np.float64), after.astype(np.float64)
    assert output.sqnr_db == pytest.approx(10 * np.log10((x**2).sum() / ((y - x) ** 2).sum()))
    assert output.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    assert output.max_abs == pytest.approx(np.abs(y - x).max())
    assert output.top1_agreement == (x.argmax(1) == y.argmax(1)).mean()
    assert output.rows == 100
    assert output.non_finite == 0


def test_equal_outputs_have_no_ratio() -> None:
    (output,) = compared(np.ones((4, 3)), np.ones((4, 3)), 2, axis=1).outputs()

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

    (output,) = compared(before, after, 2, axis=1).outputs()

    assert output.non_finite == 2
    assert output.sqnr_db is None, "what is finite on both sides is equal"
    assert output.top1_agreement == pytest.approx(1 / 3), "an infinity that both have is an answer"


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 2), (4, 2, 8, 8)])
def test_only_scores_have_an_answer(shape: tuple[int, ...]) -> None:
    (output,) = compared(np.ones(shape), np.ones(shape), 2).outputs()

    assert (output.top1_agreement, output.answers, output.agreement_low) == (None, None, None)


@pytest.mark.parametrize(("shape", "axis"), [((40, 6), 1), ((40, 7, 6), 2), ((40, 6, 5, 4), 1), ((40, 6, 5), 1)])
def test_answers_at_any_rank(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal(shape)
    after = before + 0.4 * rng.standard_normal(shape)

    (output,) = compared(before, after, 7, axis=axis).outputs()

    same = before.argmax(axis) == after.argmax(axis)
    assert output.top1_agreement == pytest.approx(same.mean())
    assert (output.answers, output.class_axis) == (same.size, axis)
    assert output.agreement_low < same.mean() < output.agreement_high
    assert 40 <= output.independent_answers <= same.size


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_probabilities_are_recognised_by_their_sums(axis: int) -> None:
    scores = np.exp(np.random.default_rng(1).standard_normal((12, 4, 5, 6)))
    probabilities = (scores / scores.sum(axis, keepdims=True)).astype(np.float32)

    (output,) = compared(probabilities, probabilities, 5).outputs()
    (plain,) = compared(scores, scores, 5).outputs()

    assert (output.class_axis, plain.class_axis) == (axis, None)


def test_tokens_of_one_row_are_not_so_many_answers() -> None:
    """Half of the rows are wrong throughout: 64 rows with 100 tokens each are worth 64 answers, not 6,400."""
    before = np.tile(np.eye(3)[0], (64, 100, 1))
    after = before.copy()
    after[::2] = np.eye(3)[1]

    (together,) = compared(before, after, 16, axis=2).outputs()
    (apart,) = compared(before[:, 0], after[:, 0], 16, axis=1).outputs()

    assert together.agreement_low == pytest.approx(apart.agreement_low, abs=0.02)


def test_few_rows_leave_the_noise_open() -> None:
    rng = np.random.default_rng(2)
    before = rng.standard_normal((400, 8))
    after = before + 0.1 * rng.standard_normal((400, 8))
    after[3] += 1

    low = [compared(before[:rows], after[:rows], 50).outputs()[0].sqnr_low_db for rows in (1, 8, 400)]

    assert low == sorted(low)
    assert low[0] == -LARGEST_DB
    assert compared(before, before, 50).outputs()[0].sqnr_low_db is None


def test_what_only_one_of_them_has_finite_is_a_difference() -> None:
    nothing, masked = np.full((4, 3), np.nan), np.full((4, 3), -np.inf)

    assert compared(masked, np.zeros((4, 3)), 2).outputs()[0].non_finite == 12
    assert compared(masked, -masked, 2).outputs()[0].non_finite == 12
    empty = compared(nothing, nothing, 2)
    assert empty.outputs() == (), "there is nothing that could be equal"
    assert empty.uncomparable == {"s"}
    assert "no finite value on 4 rows" in empty.notes()[0]


def test_texts_and_complex_numbers_are_compared() -> None:
    texts = np.array(["a", "b", "c", "d"], object)
    (words,) = compared(texts, np.array(["a", "b", "c", "x"], object), 2).outputs()
    (waves,) = compared(np.full((4, 2), 1 + 1j), np.full((4, 2), 1 + 2j), 2).outputs()

    assert words.top1_agreement == 0.75
    assert waves.sqnr_db == pytest.approx(3.01, abs=0.01)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_integers_and_booleans_agree_value_by_value(dtype: type, shape: tuple[int, ...]) -> None:
    before = np.ones(shape, dtype)
    after = before.copy()
    after[(1, *[0] * (len(shape) - 1))] = 0

    parity = compared(before, after, 3)

    assert parity.outputs()[0].top1_agreement == pytest.approx(1 - 1 / before.size)
    assert parity.outputs()[0].max_abs == 1
    assert parity.discrete == {"s"}
    assert compared(before, before, 3).outputs()[0].sqnr_db is None


def test_another_shape_is_noted_and_a_missing_output_refused() -> None:
    parity = Parity()
    parity.add(PairedOutputs({"boxes": np.ones((5, 4))}, {"boxes": np.ones((6, 4))}, None))

    assert parity.outputs() == ()
    assert "'boxes'" in parity.notes()[0]
    with pytest.raises(OutputMissing):
        parity.add(PairedOutputs({"boxes": np.ones((5, 4))}, {"other": np.ones((5, 4))}, None))


def test_memory_does_not_grow_with_the_rows() -> None:
    parity, batch = Parity(), np.ones((16, 1000), np.float32)
    parity.add(PairedOutputs({"s": batch}, {"s": batch}, None))
    tracemalloc.start()
    for _ in range(300):
        parity.add(PairedOutputs({"s": batch}, {"s": batch}, None))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept < 20_000
    assert parity.outputs()[0].rows == 301 * 16
