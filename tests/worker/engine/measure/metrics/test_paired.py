"""Metrics against oracles, and labels that cannot be used."""

import numpy as np
import pytest

from worker.engine.measure.metrics.paired import PairedMetrics
from worker.engine.measure.metrics.top_k import within
from worker.engine.measure.running import PairedOutputs


def measured(names: tuple, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None, batch: int = 7) -> tuple:
    metrics = PairedMetrics(names)
    for start in range(0, len(before), batch):
        rows = slice(start, start + batch)
        metrics.add(PairedOutputs({"s": before[rows]}, {"s": after[rows]}, None if labels is None else labels[rows]))
    return metrics.changes()


def scores(rows: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, classes)).astype(np.float32)


def test_top1_and_top5_against_sorting() -> None:
    before, after = scores(200, 12, 1), scores(200, 12, 2)
    labels = np.random.default_rng(3).integers(0, 12, 200)

    (top1, top5), notes = measured(("top1", "top5"), before, after, labels)

    assert notes == ()
    for change, rank in ((top1, 1), (top5, 5)):
        for model, value in ((before, change.before), (after, change.after)):
            best = np.argsort(-model, axis=1)[:, :rank]
            assert value == pytest.approx((best == labels[:, None]).any(axis=1).mean())
        assert change.drop == pytest.approx(change.before - change.after)
        assert change.drop_low <= change.drop <= change.drop_high
        assert change.rows == 200
        assert change.resolution == 1 / 200


def test_equal_scores_rank_like_arg_max() -> None:
    tied = np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])

    assert within(tied, np.array([1, 0]), 1).tolist() == [True, True]
    assert within(tied, np.array([2, 1]), 1).tolist() == [False, False]
    assert within(tied, np.array([2, 1]), 2).tolist() == [True, True]


def test_nan_is_never_right() -> None:
    broken = np.array([[np.nan, 1.0], [np.nan, np.nan]])

    assert within(broken, np.array([0, 1]), 1).tolist() == [False, False]


def test_a_clear_loss_has_an_interval_above_zero() -> None:
    labels = np.arange(300) % 10
    right = np.eye(10, dtype=np.float32)[labels]
    worse = np.where((np.arange(300) < 60)[:, None], np.roll(right, 1, axis=1), right)

    ((top1,), _) = measured(("top1",), right, worse, labels)

    assert top1.drop == pytest.approx(0.2)
    assert 0.14 < top1.drop_low < 0.2 < top1.drop_high < 0.26


def test_mse_counts_an_increase_as_a_loss() -> None:
    target = np.random.default_rng(1).standard_normal((100, 3))

    ((mse,), notes) = measured(("mse",), target + 0.1, target + 0.3, target)

    assert notes == ()
    assert mse.before == pytest.approx(0.01)
    assert mse.after == pytest.approx(0.09)
    assert mse.drop == pytest.approx(0.08)
    assert mse.resolution is None
    assert mse.drop_low > 0


def test_mse_of_one_row_claims_nothing() -> None:
    one = np.ones((1, 3))

    changes, notes = measured(("mse",), one, one + 1, one)

    assert changes == ()
    assert notes == ("mse: not measured, one row has no spread to tell a difference from noise.",)


def test_one_flipped_row_is_not_beyond_the_noise() -> None:
    ((top1,), _) = measured(("top1",), np.eye(3)[:1], np.eye(3)[1:2], np.array([0]))

    assert top1.drop == 1
    assert top1.drop_low <= 0


def test_a_column_of_one_may_be_missing() -> None:
    target = np.arange(6.0)

    ((mse,), _) = measured(("mse",), target[:, None], target[:, None] + 2, target)

    assert mse.after == pytest.approx(4.0)


def test_labels_in_a_column() -> None:
    ((top1,), _) = measured(("top1",), np.eye(4), np.eye(4), np.arange(4, dtype=np.uint8)[:, None])

    assert top1.after == 1.0


def test_without_labels_nothing_is_measured() -> None:
    assert measured(("top1", "mse"), scores(9, 3, 1), scores(9, 3, 1), None) == (
        (),
        ("top1, mse: not measured, there are no labelled test rows.",),
    )
    assert measured((), scores(9, 3, 1), scores(9, 3, 1), None) == ((), ())


def test_top5_of_five_classes_says_nothing() -> None:
    changes, notes = measured(("top1", "top5"), scores(9, 5, 1), scores(9, 5, 1), np.zeros(9, np.int64))

    assert [change.metric for change in changes] == ["top1"]
    assert notes == ("top5: not measured, with so few classes every answer is right.",)


@pytest.mark.parametrize(
    ("first_output", "labels", "why"),
    [
        ((3, 3), np.array([0, 1, 3]), "labels range from 0 to 3; the judged output has 3 classes"),
        ((3, 3), np.array([0, 1, -1]), "labels range from -1 to 1"),
        ((1, 3), np.array([2**63], np.uint64), "labels range from 0 to 9223372036854775808"),
        ((3, 3), np.array([0.0, 1.0, 2.0]), "the labels are float64"),
        ((3, 3), np.eye(3), "store the number of the class"),
        ((3, 3), np.zeros((3, 2), np.int64), r"a label per row, token or pixel"),
        ((3, 1), np.array([0, 1, 1]), "the judged output has one column"),
        ((3,), np.array([0, 1, 1]), r"the judged output is [3]"),
        ((3, 2, 4, 4), np.zeros(3, np.int64), "the judged output is [3, 2, 4, 4]"),
    ],
)
def test_labels_that_are_no_classes_leave_the_metric_out(
    first_output: tuple[int, ...], labels: np.ndarray, why: str
) -> None:
    outputs = np.zeros(first_output, np.float32)

    changes, (note,) = measured(("top1",), outputs, outputs, labels)

    assert changes == ()
    assert note.startswith("top1: not measured, ")
    assert why in note


def test_one_metric_left_out_leaves_the_others() -> None:
    target = scores(5, 3, 1)

    changes, (note,) = measured(("top1", "mse"), target, target + 1, target)

    assert [change.metric for change in changes] == ["mse"]
    assert note.startswith("top1: ")


def test_a_bad_label_in_a_late_batch_leaves_no_partial_figure() -> None:
    labels = np.zeros(20, np.int64)
    labels[10] = 7

    changes, (note,) = measured(("top1",), scores(20, 3, 1), scores(20, 3, 2), labels)

    assert changes == ()
    assert "labels range from 0 to 7" in note


def test_mse_of_class_labels_is_left_out() -> None:
    changes, (note,) = measured(("mse",), scores(5, 3, 1), scores(5, 3, 1), np.zeros(5, np.int64))

    assert changes == ()
    assert "[5, 3] for labels of shape [5]" in note


def test_the_output_named_is_judged() -> None:
    right, wrong = np.eye(4)[np.arange(4)], np.eye(4)[[1, 2, 3, 0]]
    outputs = {"first": wrong, "second": right}
    for name, share in ((None, 0.0), ("second", 1.0)):
        metrics = PairedMetrics(("top1",), name)
        metrics.add(PairedOutputs(outputs, outputs, np.arange(4)))
        assert metrics.changes()[0][0].before == share
