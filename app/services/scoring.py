"""Do the labels fit an output? Told from the shapes of both, as the worker reads them."""

from app.services.errors import LabelsOutOfRange
from app.spec.data import ArraySpec, DatasetInfo
from app.spec.metrics import Obstacle
from app.spec.scores import class_axis, fits
from app.spec.signature import TensorSpec
from app.spec.transforms import written


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
