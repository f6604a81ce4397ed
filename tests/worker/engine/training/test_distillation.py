"""The losses of distillation, by their definitions; answers of teachers, asked once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from app.spec.distill import FeatureMatch
from tests.support.engine.trainings import digits_rows, training_context
from worker.engine.data.batches import Batch, Source
from worker.engine.training.distillation import FeatureMismatch, dist, feature_distance, kd, kd_standardized, projection
from worker.engine.training.teacher_answers import Answers
from worker.engine.training.teachers import ANSWER

PAIR = FeatureMatch(student="a", teacher="b")


@pytest.fixture
def scores() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=random), torch.randn(8, 5, generator=random)


def test_kd_is_the_divergence_of_softened_probabilities(scores: tuple[Tensor, Tensor]) -> None:
    ours, theirs = scores
    p, q = (theirs / 4).softmax(1), (ours / 4).softmax(1)
    expected = 16 * (p * (p / q).log()).sum(1).mean()

    torch.testing.assert_close(kd(ours, theirs, 4), expected)
    assert kd(theirs, theirs, 4) == pytest.approx(0, abs=1e-6)


def test_standardized_scores_have_no_size(scores: tuple[Tensor, Tensor]) -> None:
    ours, theirs = scores

    torch.testing.assert_close(kd_standardized(3 * ours + 1, theirs, 4), kd_standardized(ours, theirs, 4))
    assert kd(3 * ours, theirs, 4) != pytest.approx(float(kd(ours, theirs, 4)), rel=0.01)


def test_dist_is_the_correlation_of_probabilities_between_and_within_classes(scores: tuple[Tensor, Tensor]) -> None:
    ours, theirs = (one.softmax(1).double().numpy() for one in scores)
    between = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)])
    within = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)])

    assert float(dist(*scores, 1.0)) == pytest.approx((1 - between) + (1 - within), abs=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((8,), (12,)), ((7, 8), (7, 12)), ((8, 6, 6), (12, 3, 3)), ((8, 3, 3), (8, 6, 6))],
)
def test_features_of_other_widths_and_sizes_are_projected(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    ours, theirs = torch.randn(4, *student), torch.randn(4, *teacher)
    made = projection(PAIR, ours, theirs).requires_grad_(requires_grad=False)

    assert made(ours).shape == theirs.shape
    assert float(feature_distance(made(ours), theirs)) > 0
    torch.testing.assert_close(feature_distance(10 * made(ours), 10 * theirs), feature_distance(made(ours), theirs))


@pytest.mark.parametrize(("student", "teacher"), [((8,), (7, 8)), ((7, 8), (5, 8)), ((8, 2, 2, 2), (8, 2, 2, 2))])
def test_features_of_other_kinds_are_not(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(FeatureMismatch, match="'a' of the student and 'b' of the teacher"):
        projection(PAIR, torch.randn(4, *student), torch.randn(4, *teacher))


def test_a_teacher_is_asked_once_for_each_row(tmp_path: Path) -> None:
    asked: list[int] = []

    class Sums:
        def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            asked.append(len(inputs["image"]))
            return {f"{ANSWER}sums": inputs["image"].sum((2, 3))}

    source = Source(digits_rows(tmp_path, slice(0, 50)))
    answers = Answers(Sums(), training_context(tmp_path, {}))  # type: ignore[arg-type]  # called like a teacher

    def check(batch: Batch) -> None:
        torch.testing.assert_close(answers(batch)[f"{ANSWER}sums"], batch.inputs["image"].sum((2, 3)))

    for epoch in range(3):
        for batch in source.batches(np.random.default_rng(epoch).permutation(50), 16):
            check(batch)
    assert sum(asked) == 50
