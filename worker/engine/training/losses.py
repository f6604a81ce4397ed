"""What training minimizes, and how well a model does on rows of a role."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.spec.data import ArraySpec
from app.spec.scores import are_class_numbers, class_axis, trained_output
from app.spec.signature import DType, Signature, TensorSpec
from app.spec.training import Training
from worker.engine.context import Context
from worker.engine.data.batches import Batch, Source, filled_up
from worker.engine.data.rows import Rows
from worker.engine.errors import EngineError
from worker.engine.torch_program.program import Program
from worker.engine.training.errors import NanLoss
from worker.engine.training.squashed_outputs import Squash, as_logits, squashed_outputs


class LabelsMismatch(EngineError):
    """The labels to learn from do not have the shape of the output that is trained."""

    code = "train.labels_mismatch"
    remedy = "Send one class number per row for scores [rows, classes], or values shaped like the output."


class TrainingLabelsOutOfRange(EngineError):
    """The labels to learn from name classes that the output that is trained does not have."""

    code = "train.labels_out_of_range"
    remedy = "Number the classes 0 to n-1, in the order of the model's output; name another one in `output`."


class UnknownOutput(EngineError):
    """A step that trains names an output that the model does not have."""

    code = "train.unknown_output"
    remedy = "Name one of the model's outputs in `output`, or leave it out: the first that the labels fit is trained."


class ClassWeightsMismatch(EngineError):
    """The list of class weights is not as long as the model has classes."""

    code = "train.class_weights"
    remedy = "Give one weight for each class, in the order of the model's output, or 'balanced'."


IGNORED = -100
"""The class number of places that have no label; `torch.nn.functional.cross_entropy` leaves it out."""
Outputs = Mapping[str, Tensor]
Loss = Callable[[Outputs, Batch], Tensor]
"""A scalar to be minimized, for the model's outputs by name. An `nn.Module` has parameters that are trained, too."""


@dataclass(frozen=True)
class Score:
    """How well a model does on some rows."""

    loss: float
    right_answers: float | None
    """Share of rows whose highest score is that of their label; None where labels are not class numbers."""

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the better: by the share of right answers, then by the loss."""
        return (self.right_answers or 0.0, -self.loss)


@dataclass(frozen=True)
class LabelLoss:
    """Cross-entropy of an output with class numbers, or its mean squared error."""

    output: str
    weights: Tensor | None = None
    """Of each class, `[classes]`."""
    smoothing: float = 0.0
    squash: Squash | None = None
    """What the graph ends in, if the output is not scores but their softmax or sigmoid."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The mean over the rows. Raises `LabelsMismatch`."""
        scores, labels = outputs[self.output].float(), batch.labels
        if labels is None:
            raise LabelsMismatch("The rows have no labels to learn from.")
        classes = class_numbers(scores, labels)
        if classes is not None:
            return self._of_classes(_classes_second(as_logits(scores, self.squash)), classes)
        if scores.numel() != labels.numel():
            raise LabelsMismatch(
                f"Output '{self.output}' has the shape {list(scores.shape[1:])} per row, the labels "
                f"{list(labels.shape[1:])}."
            )
        return functional.mse_loss(scores, labels.float().reshape(scores.shape))

    def _of_classes(self, scores: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy, averaged by the weights of the labels; 0 where none of them has a weight."""
        weights = None if self.weights is None else self.weights.to(scores.device)
        total = functional.cross_entropy(scores, classes, weights, reduction="sum", label_smoothing=self.smoothing)
        labels = classes[classes != IGNORED]
        weight = total.new_tensor(labels.numel()) if weights is None else weights[labels].sum()
        return torch.where(weight > 0, total / weight.clamp_min(torch.finfo(weight.dtype).tiny), 0 * total)


def class_numbers(scores: Tensor, labels: Tensor) -> Tensor | None:
    """Labels as class numbers, int64, of the shape of the scores without their class axis; None if they are values."""
    if labels.is_floating_point() or scores.ndim < 2 or scores.shape[class_axis(scores.ndim)] < 2:
        return None
    wanted = _classes_second(scores)[:, 0].shape
    return labels.reshape(wanted) if labels.numel() == int(np.prod(wanted)) else None


def _classes_second(scores: Tensor) -> Tensor:
    """As losses take them: `[rows, classes, ...]`."""
    return scores.movedim(class_axis(scores.ndim), 1)


def learning_output(config: Training, program: Program, context: Context) -> TensorSpec:
    """The output that learns the labels: the one named, or the first that they fit. Raises `UnknownOutput`."""
    return labelled_output(program.signature, context.data["train"], config.output)


def labelled_output(signature: Signature, rows: Rows, named: str | None) -> TensorSpec:
    """The output that the labels of `rows` belong to: the one named, or the first that they fit.

    Raises `UnknownOutput`.
    """
    output = trained_output(signature, labels_spec(rows), named)
    if output is None:
        names = ", ".join(f"'{tensor.name}'" for tensor in signature.outputs)
        raise UnknownOutput(f"The model has no output '{named}'; its outputs are {names}.")
    return output


def labels_spec(rows: Rows) -> ArraySpec | None:
    """What the labels to learn from are like, told by the first of them; None without labels."""
    first = next(Source(rows).label_blocks(), None)
    if first is None:
        return None
    dtype: DType = "float32" if first.dtype.kind == "f" else "int64"
    return ArraySpec(dtype=dtype, shape=(len(rows), *first.shape[1:]))


def label_loss(config: Training, program: Program, context: Context) -> LabelLoss:
    """The loss that a config asks for. Raises `UnknownOutput`, `TrainingLabelsOutOfRange`, `ClassWeightsMismatch`."""
    output, labels = learning_output(config, program, context), labels_spec(context.data["train"])
    squash = squashed_outputs(program).get(output.name)
    loss = LabelLoss(output.name, smoothing=config.label_smoothing, squash=squash)
    if labels is None or not are_class_numbers(output, labels):
        return loss
    classes = output.shape[class_axis(len(output.shape))]
    if not isinstance(classes, int):
        return loss
    counts = class_counts(context, "train", classes)
    class_counts(context, "validation", classes)
    if config.class_weights is None or counts is None:
        return loss
    return replace(loss, weights=_class_weights(config, counts))


def class_counts(context: Context, role: Literal["train", "validation"], classes: int) -> np.ndarray | None:
    """How many labels of a role belong to each class, None if it has no class numbers."""
    if role not in context.data:
        return None
    counts = np.zeros(classes, np.int64)
    for labels in Source(context.data[role]).label_blocks():
        if labels.dtype.kind == "f":
            return None
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise TrainingLabelsOutOfRange(
                f"The labels of the role {role} reach from {labels.min()} to {labels.max()}; the model has {classes} "
                f"classes (0 to {classes - 1})."
            )
        counts += np.bincount(labels.astype(np.int64).reshape(-1), minlength=classes)
    return counts if counts.any() else None


def _class_weights(config: Training, counts: np.ndarray) -> Tensor:
    """Weight of each class: as listed, or rows / (classes x rows of the class), of the classes that occur."""
    if config.class_weights == "balanced":
        present = counts > 0
        weights = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0)
        return torch.from_numpy(weights.astype(np.float32))
    listed = torch.tensor(config.class_weights, dtype=torch.float32)
    if len(listed) != len(counts):
        raise ClassWeightsMismatch(f"There are {len(listed)} class weights and {len(counts)} classes.")
    return listed


@torch.no_grad()
def evaluate(
    forward: Callable[[Mapping[str, Tensor]], Outputs],
    loss: Loss,
    source: Source,
    *,
    output: str,
    batch: int,
    fixed: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Score:
    """Loss, and share of right answers of `output`, over all rows of `source`. Raises `NanLoss`.

    `fixed`: `forward` takes batches of the size `batch` only, so that the last one is filled up with other rows.
    """
    total, right, judged, seen = 0.0, 0, 0, 0
    order = np.arange(len(source))
    for rows in source.batches(filled_up(order, batch) if fixed else order, batch, device):
        outputs = forward(rows.inputs)
        total, seen = total + float(loss(outputs, rows)) * len(rows), seen + len(rows)
        classes = None if rows.labels is None else class_numbers(outputs[output], rows.labels)
        if classes is not None:
            right += int((outputs[output].argmax(class_axis(outputs[output].ndim)) == classes).sum())
            judged += classes.numel()
    mean = total / seen
    if not np.isfinite(mean):
        raise NanLoss(f"The loss on the validation rows is {mean}.")
    return Score(mean, right / judged if judged else None)
