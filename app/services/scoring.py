"""Can a metric be measured? Told from the shapes of the labels and of the first output, as the worker reads them."""

from dataclasses import dataclass

from app.services.errors import LabelsOutOfRange
from app.spec.data import ArraySpec, DatasetInfo
from app.spec.evaluate import MetricName
from app.spec.scores import class_axis, comparable, fits
from app.spec.signature import FLOATS, TensorSpec
from app.spec.transforms import written

RANKS: dict[MetricName, int] = {"top1": 1, "top5": 5}
"""The metrics that look for the label among so many of the highest scores."""


@dataclass(frozen=True)
class Obstacle:
    """Why a metric cannot be measured, as the end of a sentence, and what to do about it."""

    reason: str
    remedy: str


def obstacle(metric: MetricName, output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
    """Find what keeps a metric from being measured; None where nothing that is known does."""
    if metric == "mse":
        return _against_mse(output, labels)
    return _against_labels(labels) or _against_scores(metric, output)


def learnable(output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
    """Find what keeps an output from learning labels: numbers of its classes, or values of its shape."""
    if fits(output, labels):
        return None
    axis = class_axis(len(output.shape))
    places = written((*output.shape[1:axis], *output.shape[axis + 1 :]))
    return Obstacle(
        f"output '{output.name}' is {output.dtype} of shape {written(output.shape)}, a row of the labels "
        f"{labels.dtype} of shape {written(labels.shape[1:])}",
        f"Send class numbers of shape {places} per row or values shaped like the output, or name the output that the "
        "labels belong to in the step's `output`.",
    )


def check_labels(output: TensorSpec, info: DatasetInfo, pointer: str, *, axis: int = -1) -> None:
    """Require that integer labels number classes, which `axis` of the output counts; raises `LabelsOutOfRange`."""
    classes = output.shape[axis]
    if info.label_range is None or not isinstance(classes, int):
        return
    low, high = info.label_range
    if low < 0 or high >= classes:
        raise LabelsOutOfRange(
            f"The labels run from {low} to {high}; output '{output.name}' has {classes} classes (0 to {classes - 1}).",
            pointer=pointer,
        )


def _against_labels(labels: ArraySpec) -> Obstacle | None:
    if labels.dtype in FLOATS:
        return Obstacle(
            f"the labels are {labels.dtype}, not class numbers",
            "Store `y` as integers, or ask for mse in `evaluate.metrics`.",
        )
    if labels.shape[1:] not in {(), (1,)}:
        return Obstacle(
            f"a row of the labels has the shape {written(labels.shape[1:])}, not one class number",
            "Send one class number per row (one-hot labels: y.argmax(axis=1)), or ask for mse in `evaluate.metrics`.",
        )
    return None


def _against_scores(metric: MetricName, output: TensorSpec) -> Obstacle | None:
    if len(output.shape) != 2:
        found = f"output '{output.name}' is {output.dtype} of shape {written(output.shape)}"
        return Obstacle(
            f"{found}, not scores [rows, classes]",
            "Name an output with scores of every class in `evaluate.output` (not their argmax), or ask for mse.",
        )
    classes = output.shape[1]
    if classes == 1:
        return Obstacle(
            f"output '{output.name}' has a single column",
            "Export two class scores instead of one probability, or ask for mse in `evaluate.metrics`.",
        )
    if isinstance(classes, int) and classes <= RANKS[metric]:
        return Obstacle(f"with {classes} classes every answer is right", "Ask for top1 instead.")
    return None


def _against_mse(output: TensorSpec, labels: ArraySpec) -> Obstacle | None:
    if output.shape and comparable(output.shape[1:], labels.shape[1:]):
        return None
    return Obstacle(
        f"output '{output.name}' has the shape {written(output.shape)}, "
        f"a row of the labels {written(labels.shape[1:])}",
        "Send labels `y` shaped like the output, or name the output that they belong to in `evaluate.output`.",
    )
