"""Does this data fit this model? Answered from what admission learned, before anything is queued."""

from collections.abc import Iterator

from app.services.errors import DataMismatch, NoBatchAxis, SplitUnknown
from app.spec.batch import without_batch
from app.spec.data import LABELS, SPLIT_ROLES, DatasetInfo, DatasetSpec, array_for, split_names
from app.spec.signature import Signature, TensorSpec, allows
from app.spec.tokenize import Tokenize
from app.spec.transforms import Shape, TransformMismatch, varies, written

PICTURE_AXES = 3
"""Channels, height and width of one sample."""


def resolve_split(role: str, wanted: str | None, info: DatasetInfo, spec: DatasetSpec) -> str | None:
    """Find the split a reference means: the one named, else the one called like the role, else all rows (None).

    The usual other names of roles count, too: `val` and `valid` are validation rows.
    """
    names = split_names(info, spec)
    if wanted is None:
        return next((name for name in names if SPLIT_ROLES.get(name, name) == role), None)
    if wanted not in names:
        raise SplitUnknown(
            f"The data set has no split '{wanted}' (declared: {', '.join(names) or 'none'}).",
            pointer=f"/data/{role}/split",
        )
    return wanted


def check_batch(signature: Signature) -> None:
    """Require that the first axis of every input is the batch, as rows of data need it; raises `NoBatchAxis`."""
    problem = without_batch(signature)
    if problem is not None:
        raise NoBatchAxis(problem, pointer="/model")


def check_inputs(role: str, signature: Signature, info: DatasetInfo, spec: DatasetSpec) -> Iterator[str]:
    """Require that the arrays, preprocessed, are the model's inputs; yields warnings, raises `DataMismatch`."""
    pointer = f"/data/{role}"
    inputs = {tensor.name for tensor in signature.inputs}
    used = {LABELS}
    for tensor in signature.inputs:
        array = array_for(tensor.name, inputs, info.arrays, info.format, spec)
        if array is None:
            raise DataMismatch(
                f"The model needs an input '{tensor.name}'; the data set has {_listed(info.arrays)}.", pointer=pointer
            )
        used.add(array)
        shape, dtype = _preprocessed(array, info, spec)
        if spec.tokenize is not None and array in spec.tokenize.arrays() and array not in spec.preprocess:
            _check_tokens(pointer, tensor, spec.tokenize)
        _check_input(pointer, tensor, shape, dtype)
        batch = tensor.shape[0]
        if isinstance(batch, int) and batch > info.rows:
            raise DataMismatch(
                f"The model takes batches of {batch}; the data set has {info.rows} rows.", pointer=pointer
            )
    for name in info.arrays:
        if name not in used and (spec.tokenize is None or name != spec.tokenize.types):
            yield f"{role}: the array '{name}' is no input of the model and is not used."


def _check_input(pointer: str, tensor: TensorSpec, shape: Shape, dtype: str) -> None:
    if dtype != tensor.dtype:
        raise DataMismatch(
            f"Input '{tensor.name}' takes {tensor.dtype}, the data is {dtype}.",
            pointer=pointer,
            remedy=_conversion(dtype, tensor.dtype),
        )
    if varies(shape):
        raise DataMismatch(
            f"The samples for input '{tensor.name}' differ in size: {written(shape)}.",
            pointer=pointer,
            remedy=_alike(dtype, len(shape)),
        )
    if not _fits(shape, tensor):
        raise DataMismatch(
            f"Input '{tensor.name}' takes samples of shape {written(tensor.shape[1:])}, the data has {written(shape)}.",
            pointer=pointer,
        )


def _conversion(dtype: str, wanted: str) -> str:
    """What makes the data the input's type; only bytes are divided by 255, as `to_float` does."""
    if dtype == "uint8" and wanted == "float32":
        return "Declare preprocessing with to_float, which makes 0 to 1 of bytes, or convert the array."
    return f"Store the array as {wanted}: array.astype('{wanted}')."


def _alike(dtype: str, axes: int) -> str:
    """What makes samples of different sizes alike."""
    if axes != PICTURE_AXES:
        return "Pad or cut the samples to one shape before the upload."
    first = "to_float, then resize" if dtype == "uint8" else "resize"
    return f"Declare preprocessing that makes them alike: {first}, or resize_shorter and center_crop."


def _check_tokens(pointer: str, tensor: TensorSpec, declared: Tokenize) -> None:
    """Require that an input takes what tokenizing makes, and say which field of its declaration does not fit."""
    if tensor.dtype != declared.dtype:
        fits = tensor.dtype in {"int32", "int64"}
        raise DataMismatch(
            f"Input '{tensor.name}' takes {tensor.dtype}, tokens are {declared.dtype}.",
            pointer=pointer,
            remedy=f"Upload the data set with `tokenize.dtype` set to '{tensor.dtype}'."
            if fits
            else "Name the model's integer inputs in `tokenize`; for a mask of floats add `preprocess` with to_float "
            "and scale 1.",
        )
    length = tensor.shape[1] if len(tensor.shape) == 2 else None
    if length is None:
        raise DataMismatch(
            f"Input '{tensor.name}' takes samples of shape {written(tensor.shape[1:])}, tokens are a row of them.",
            pointer=pointer,
            remedy="Name the inputs of shape [batch, tokens] in `tokenize`.",
        )
    if not allows(length, declared.max_length):
        takes = length if isinstance(length, int) else f"{length.min or 1} to {length.max or 'any number'}"
        raise DataMismatch(
            f"Input '{tensor.name}' takes {takes} tokens, the data set is tokenized to {declared.max_length}.",
            pointer=pointer,
            remedy="Upload the data set with a `tokenize.max_length` that the model takes, or export the model with a "
            "dynamic length.",
        )


def _preprocessed(name: str, info: DatasetInfo, spec: DatasetSpec) -> tuple[Shape, str]:
    array = info.arrays[name]
    shape, dtype = array.shape[1:], array.dtype
    for position, transform in enumerate(spec.preprocess.get(name, ())):
        try:
            shape, dtype = transform.after(shape, dtype)
        except TransformMismatch as error:
            raise DataMismatch(f"{error}.", pointer=f"/preprocess/{name}/{position}") from error
    return shape, dtype


def _fits(shape: Shape, tensor: TensorSpec) -> bool:
    wanted = tensor.shape[1:]
    return len(shape) == len(wanted) and all(
        isinstance(size, int) and allows(axis, size) for axis, size in zip(wanted, shape, strict=True)
    )


def _listed(names: dict[str, object] | object) -> str:
    return ", ".join(f"'{name}'" for name in names) if isinstance(names, dict) and names else "none"
