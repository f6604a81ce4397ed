"""Which output learns the labels, and which of its axes numbers the classes: one answer for service and worker."""

from app.spec.data import ArraySpec
from app.spec.signature import FLOATS, Dimension, Signature, TensorSpec, allows
from app.spec.transforms import Shape

TOKEN_AXES = 3


def class_axis(axes: int) -> int:
    """Axis of scores that numbers the classes, by how many axes they have.

    The last of `[rows, classes]` and `[rows, tokens, classes]`, the second of `[rows, classes, height, width]`.
    """
    return axes - 1 if axes <= TOKEN_AXES else 1


def are_class_numbers(output: TensorSpec, labels: ArraySpec) -> bool:
    """Whether training takes labels for numbers of classes, of which the output has a score each."""
    if labels.dtype in FLOATS or output.dtype not in FLOATS or len(output.shape) < 2:
        return False
    axis = class_axis(len(output.shape))
    return output.shape[axis] != 1 and comparable(output.shape[1:axis] + output.shape[axis + 1 :], labels.shape[1:])


def fits(output: TensorSpec, labels: ArraySpec) -> bool:
    """Whether an output can learn labels: as numbers of its classes, or as values of its shape."""
    if are_class_numbers(output, labels):
        return True
    return bool(output.shape) and output.dtype in FLOATS and comparable(output.shape[1:], labels.shape[1:])


def trained_output(signature: Signature, labels: ArraySpec | None, named: str | None) -> TensorSpec | None:
    """The output of that name, None if there is none; without a name the first that fits the labels, else the first."""
    if named is not None:
        return next((output for output in signature.outputs if output.name == named), None)
    fitting = (output for output in signature.outputs if labels is not None and fits(output, labels))
    return next(fitting, signature.outputs[0])


def comparable(output: tuple[int | Dimension, ...], labels: Shape) -> bool:
    """Whether these are the same but for axes of one; in doubt, where a varying axis may be one of them, yes."""
    if all(isinstance(size, int) for size in output):
        return [size for size in output if size != 1] == [size for size in labels if size != 1]
    return (
        len(output) != len(labels)
        or 1 in output
        or 1 in labels
        or all(isinstance(size, int) and allows(axis, size) for axis, size in zip(output, labels, strict=True))
    )
