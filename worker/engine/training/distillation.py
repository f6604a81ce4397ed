"""Losses of a student that learns from a teacher."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.spec.distill import Distill, FeatureMatch
from app.spec.scores import TOKEN_AXES, class_axis
from worker.engine.data.batches import Batch
from worker.engine.errors import EngineError
from worker.engine.training.features import FEATURE
from worker.engine.training.losses import Loss, Outputs
from worker.engine.training.squashed_outputs import Squash, as_logits
from worker.engine.training.teachers import ANSWER


class FeatureMismatch(EngineError):
    """Two features to be matched have shapes that no projection of channels brings together."""

    code = "distill.feature_mismatch"
    remedy = "Match values with as many axes: [rows, channels], [rows, tokens, channels], or images."


Distance = Callable[[Tensor, Tensor], Tensor]
"""Of a student's from a teacher's scores, both `[rows, classes]`."""


class DistillationLoss(nn.Module):
    """(1 - alpha) x the loss of the labels + alpha x the distance from the teacher, projections included."""

    def __init__(
        self,
        step: Distill,
        outputs: Mapping[str, str],
        teacher: Callable[[Batch], Mapping[str, Tensor]],
        labels: Loss | None,
        projections: Mapping[FeatureMatch, nn.Module],
        *,
        squashed: Mapping[str, Squash],
        taught_squashed: Mapping[str, Squash],
    ) -> None:
        """`outputs` are the student's with those of the teacher they are to give; without `labels` alpha must be 1.

        `squashed` and `taught_squashed` are the outputs of student and teacher that are probabilities.
        """
        super().__init__()
        self._step, self._outputs, self._teacher, self._labels = step, dict(outputs), teacher, labels
        self._distance = distance(step)
        self._squashes = {
            ours: _both_as_scores(step, squashed.get(ours), taught_squashed.get(other))
            for ours, other in outputs.items()
        }
        self._pairs = tuple(projections)
        self.projections = nn.ModuleList(projections.values())

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The loss, a scalar: the weighted sum of every term."""
        taught = self._teacher(batch)
        terms = [] if self._distance is None else [self._of_outputs(self._distance, outputs, taught)]
        for pair, projection in zip(self._pairs, self.projections, strict=True):
            ours, theirs = outputs[f"{FEATURE}{pair.student}"].float(), taught[f"{FEATURE}{pair.teacher}"]
            terms.append(pair.weight * feature_distance(projection(ours), theirs))
        from_teacher = torch.stack(terms).sum()
        if self._labels is None:
            return from_teacher
        return (1 - self._step.share) * self._labels(outputs, batch) + self._step.share * from_teacher

    def _of_outputs(self, distance: Distance, outputs: Outputs, taught: Mapping[str, Tensor]) -> Tensor:
        """Averaged, so that alpha means the same for any number of them."""
        distances = []
        for ours, other in self._outputs.items():
            squash, taught_squash = self._squashes[ours]
            scores = as_logits(outputs[ours], squash)
            distances.append(distance(scores, as_logits(taught[f"{ANSWER}{other}"], taught_squash)))
        return torch.stack(distances).mean()


def _both_as_scores(step: Distill, squash: Squash | None, taught: Squash | None) -> tuple[Squash | None, Squash | None]:
    """What to undo on both sides: nothing where values of the same kind are compared as they are."""
    return (None, None) if step.loss == "mse" and squash == taught else (squash, taught)


def distance(step: Distill) -> Distance | None:
    """The distance of outputs that a step asks for; None if it matches features alone."""
    if step.loss == "features":
        return None
    if step.loss == "mse":
        return functional.mse_loss
    scored = {"kd": kd, "kd_standardized": kd_standardized, "dist": dist}[step.loss]
    return partial(_of_rows, partial(scored, temperature=step.softness))


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened probabilities. Hinton, Vinyals, Dean, 2015."""
    ours, theirs = functional.log_softmax(student / temperature, 1), functional.log_softmax(teacher / temperature, 1)
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * temperature**2


def kd_standardized(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`kd` of scores with mean 0 and deviation 1, so that the student need not match their size. Sun et al., 2024."""
    return kd(_standardized(student), _standardized(teacher), temperature)


def dist(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Correlation of probabilities over the classes of a row and over the rows of a class. Huang et al., 2022."""
    ours, theirs = functional.softmax(student / temperature, 1), functional.softmax(teacher / temperature, 1)
    return _uncorrelated(ours, theirs) + _uncorrelated(ours.t(), theirs.t())


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error, relative to the teacher's mean square: the same for features of any size."""
    return functional.mse_loss(student, teacher) / teacher.square().mean().clamp_min(torch.finfo(torch.float32).tiny)


def projection(pair: FeatureMatch, student: Tensor, teacher: Tensor) -> nn.Module:
    """What turns a student's values into the shape of a teacher's. Raises `FeatureMismatch`."""
    if student.ndim != teacher.ndim or student.ndim < 2 or not student.is_floating_point():
        raise _unlike(pair, student, teacher)
    ours, theirs = student.shape[class_axis(student.ndim)], teacher.shape[class_axis(teacher.ndim)]
    if student.ndim <= TOKEN_AXES:
        if student.shape[1:-1] != teacher.shape[1:-1]:
            raise _unlike(pair, student, teacher)
        return nn.Identity() if ours == theirs else nn.Linear(ours, theirs)
    if student.ndim > TOKEN_AXES + 1:
        raise _unlike(pair, student, teacher)
    resized = _Pooled(teacher.shape[2:])
    return resized if ours == theirs else nn.Sequential(resized, nn.Conv2d(ours, theirs, 1))


class _Pooled(nn.Module):
    """Averages images, or repeats their pixels, to a height and width."""

    def __init__(self, size: torch.Size) -> None:
        super().__init__()
        self._size = (size[0], size[1])

    def forward(self, images: Tensor) -> Tensor:
        """Images `[rows, channels, height, width]` of the size wanted."""
        return images if images.shape[2:] == self._size else functional.adaptive_avg_pool2d(images, self._size)


def _unlike(pair: FeatureMatch, student: Tensor, teacher: Tensor) -> FeatureMismatch:
    shapes = f"{list(student.shape[1:])} and {list(teacher.shape[1:])}"
    return FeatureMismatch(f"'{pair.student}' of the student and '{pair.teacher}' of the teacher are {shapes} per row.")


def _of_rows(scored: Distance, student: Tensor, teacher: Tensor) -> Tensor:
    """For scores with tokens or places, of which every one counts as a row."""
    axis = class_axis(student.ndim)
    return scored(student.movedim(axis, -1).flatten(0, -2), teacher.movedim(axis, -1).flatten(0, -2))


def _standardized(scores: Tensor) -> Tensor:
    centered = scores - scores.mean(1, keepdim=True)
    return centered / (scores.std(1, keepdim=True) + 1e-7)


def _uncorrelated(ours: Tensor, theirs: Tensor) -> Tensor:
    """1 - Pearson's correlation, averaged over rows."""
    ours, theirs = ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True)
    return 1 - functional.cosine_similarity(ours, theirs, dim=1).mean()
