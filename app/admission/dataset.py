"""Admission of data sets."""

from pathlib import Path

from app.admission.errors import (
    Broken,
    DatasetBomb,
    DatasetTooLarge,
    EmptyUpload,
    Inflating,
    MalformedDataset,
    PickledDataset,
    RowMismatch,
    SplitEmpty,
    TransformDoesNotFit,
    UnknownInput,
    Unsafe,
    UnsupportedDataset,
)
from app.admission.npz import MAX_ARRAYS, SUFFIX, Scanned, scan_array
from app.admission.sniff import Kind, sniff
from app.admission.zipped import Archive
from app.spec.data import LABELS, DatasetInfo, DatasetSpec, TransformMismatch, split_bounds

_HINTS: dict[Kind, str] = {
    "npy": "A single .npy array has no name. Name it after the model's input: np.savez('data.npz', x=array, y=labels).",
    "image": "Decode images first and send them as one array: np.savez('data.npz', x=images, y=labels).",
    "pickle": "Pickles run code when they are loaded. Send arrays: np.savez('data.npz', x=array, y=labels).",
    "compressed": "Unpack it and send the .npz itself; np.savez_compressed is accepted.",
}


def admit_dataset(path: Path, spec: DatasetSpec, *, max_inflated_bytes: int) -> DatasetInfo:
    """Read the data set at `path` once and say what is inside; `spec` must fit it.

    Memory is a few mebibytes whatever the size. Raises a subclass of `AdmissionError`.
    """
    try:
        scanned = _scan(path, max_inflated_bytes)
    except Broken as error:
        raise MalformedDataset(f"The data set is damaged: {error}.") from error
    except Unsafe as error:
        raise PickledDataset(str(error)) from error
    except Inflating as error:
        raise DatasetBomb(f"The data set is refused: {error}.") from error
    rows = _rows(scanned)
    _require_splits(rows, spec)
    _require_transforms(scanned, spec)
    return DatasetInfo(
        format="npz",
        rows=rows,
        arrays={name: array.spec for name, array in scanned.items()},
        label_range=scanned[LABELS].range if LABELS in scanned else None,
    )


def _scan(path: Path, max_inflated_bytes: int) -> dict[str, Scanned]:
    with path.open("rb") as file:
        kind = sniff(file)
        if kind == "empty":
            raise EmptyUpload("The data set has no bytes.")
        if kind != "zip":
            raise UnsupportedDataset("The file is not an .npz archive.", remedy=_HINTS.get(kind))
        size = path.stat().st_size
        if size > max_inflated_bytes:
            raise DatasetTooLarge(f"The data set has {size} bytes, {max_inflated_bytes} are allowed.")
        archive = Archive(file, 0, size, max_inflated_bytes=max_inflated_bytes, colons=True)
        arrays = {name.removesuffix(SUFFIX): member for name, member in archive.members.items()}
        if not any(name.endswith(SUFFIX) for name in archive.members):
            raise UnsupportedDataset("The archive holds no .npy arrays.")
        if stray := [name for name in archive.members if not name.endswith(SUFFIX)]:
            raise Broken(f"{stray[0]!r} is not an .npy array")
        if len(arrays) > MAX_ARRAYS:
            raise Broken(f"it holds {len(arrays)} arrays, {MAX_ARRAYS} are allowed")
        if not arrays.keys() - {LABELS}:
            raise Broken("it holds labels only, no input")
        return {name: scan_array(archive, member) for name, member in arrays.items()}


def _rows(scanned: dict[str, Scanned]) -> int:
    lengths = {name: array.spec.shape[0] for name, array in scanned.items()}
    if len(set(lengths.values())) > 1:
        few, many = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise RowMismatch(f"Array {few!r} has {lengths[few]} rows, {many!r} has {lengths[many]}.")
    return next(iter(lengths.values()))


def _require_splits(rows: int, spec: DatasetSpec) -> None:
    for name, (start, end) in split_bounds(rows, spec.splits).items():
        if end <= start:
            raise SplitEmpty(f"Split {name!r} gets none of the {rows} rows.", pointer=f"/splits/{name}")


def _require_transforms(scanned: dict[str, Scanned], spec: DatasetSpec) -> None:
    for name, transforms in spec.preprocess.items():
        place = "/preprocess/" + name.replace("~", "~0").replace("/", "~1")
        if name not in scanned or name == LABELS:
            raise UnknownInput(f"The data set has no input array {name!r}.", pointer=place)
        shape, dtype = scanned[name].spec.shape[1:], scanned[name].spec.dtype
        for index, transform in enumerate(transforms):
            try:
                shape, dtype = transform.after(shape, dtype)
            except TransformMismatch as error:
                raise TransformDoesNotFit(f"Input {name!r}: {error}.", pointer=f"{place}/{index}") from error
