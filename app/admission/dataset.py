"""Admission of data sets."""

import logging
from pathlib import Path

from app.admission.defects import DEFECTS
from app.admission.errors import (
    AdmissionError,
    Broken,
    DatasetTooLarge,
    EmptyUpload,
    Inflating,
    Unsafe,
    UnsupportedDataset,
)
from app.admission.image_folder import ImageFolder, read_image_folder
from app.admission.npz import SUFFIX, read_npz
from app.admission.parquet import read_parquet
from app.admission.sniff import Kind, sniff
from app.admission.text_archive import TextArchive, TokenizerMissing, is_text_archive
from app.spec.data import LABELS, DatasetInfo, DatasetSpec, split_bounds
from app.spec.transforms import TransformMismatch

log = logging.getLogger(__name__)


class MalformedDataset(AdmissionError):
    """The data set does not follow its format: it is truncated, damaged or contradicts itself."""

    code = "dataset.malformed"
    remedy = "Write the file again (np.savez, zip, tar) and upload it again; compare the SHA-256 of both files."


class PickledDataset(AdmissionError):
    """The data set holds Python objects, which run code when they are loaded."""

    code = "dataset.unsafe_pickle"
    remedy = "Convert every array to a numeric dtype before np.savez."


class DatasetBomb(AdmissionError):
    """Compressed data in the data set would grow beyond what is accepted, or beyond what it declares."""

    code = "dataset.decompression_bomb"
    remedy = "Write it without compression: np.savez, zip -0, or tar."


class SplitEmpty(AdmissionError):
    """A declared split gets no rows."""

    code = "dataset.split_empty"
    remedy = "Raise the split's share or send more rows."


class UnknownInput(AdmissionError):
    """Preprocessing is declared for an array that the data set does not have."""

    code = "dataset.unknown_input"
    remedy = "Use the names of the data set's arrays ('image' for image folders); labels (y) are not preprocessed."


class TransformDoesNotFit(AdmissionError):
    """A transform cannot be applied to the samples of its array."""

    code = "dataset.transform_mismatch"
    remedy = "Change the transform or the order of the list."


_HINTS: dict[Kind, str] = {
    "npy": "A single .npy array has no name. Name it after the model's input: np.savez('data.npz', x=array, y=labels).",
    "image": "Pack pictures in a folder for each class into a zip or tar: class/picture.jpg.",
    "pickle": "Pickles run code when they are loaded. Send arrays: np.savez('data.npz', x=array, y=labels).",
    "compressed": "Unpack it and send the .npz or .tar itself; np.savez_compressed is accepted.",
}


def admit_dataset(path: Path, spec: DatasetSpec, *, max_inflated_bytes: int) -> DatasetInfo:
    """Read the data set at `path` once and say what is inside; `spec` must fit it.

    Memory is a few mebibytes for arrays whatever their size, and 60 bytes for each picture of an image folder.
    Raises a subclass of `AdmissionError`.
    """
    try:
        info = _read(path, spec, max_inflated_bytes)
        _require_splits(info.rows, spec)
        _require_transforms(info, spec)
    except Broken as error:
        raise MalformedDataset(f"The data set is damaged: {error}.") from error
    except Unsafe as error:
        raise PickledDataset(str(error)) from error
    except Inflating as error:
        raise DatasetBomb(f"The data set is refused: {error}.") from error
    except DEFECTS as error:
        log.exception("a data set was refused by a defect of its reader")
        raise MalformedDataset("The data set is damaged: it does not follow its format.") from error
    return info


def _read(path: Path, spec: DatasetSpec, max_inflated_bytes: int) -> DatasetInfo:
    with path.open("rb") as file:
        kind = sniff(file)
        if kind == "empty":
            raise EmptyUpload("The data set has no bytes.")
        if kind not in {"zip", "tar", "parquet"}:
            raise UnsupportedDataset("The file is no .npz archive, zip, tar or Parquet file.", remedy=_HINTS.get(kind))
        size = path.stat().st_size
        if size > max_inflated_bytes:
            raise DatasetTooLarge(f"The data set has {size} bytes, {max_inflated_bytes} are allowed.")
        if kind == "parquet":
            if spec.tokenize is not None:
                raise TokenizerMissing("The Parquet file comes without a tokenizer.", pointer="/tokenize")
            return read_parquet(file, size, spec, max_inflated_bytes=max_inflated_bytes)
        folder = ImageFolder(file, size, kind, max_inflated_bytes=max_inflated_bytes)
        first = folder.first()
        if kind == "zip" and first.endswith(SUFFIX):
            return read_npz(file, size, max_inflated_bytes=max_inflated_bytes)
        if kind == "zip" and is_text_archive(first):
            return _read_text(
                TextArchive.open(file, size, max_inflated_bytes=max_inflated_bytes), spec, max_inflated_bytes
            )
        if "/" not in first:
            raise UnsupportedDataset("The archive holds neither .npy arrays nor pictures in folders.")
        return read_image_folder(folder, spec)


def _read_text(archive: TextArchive, spec: DatasetSpec, max_inflated_bytes: int) -> DatasetInfo:
    with archive.parquet() as table:
        info = read_parquet(table, archive.table.size, spec, max_inflated_bytes=max_inflated_bytes)
    if spec.tokenize is None:
        return info
    return info.model_copy(update={"tokenizer": archive.describe(spec.tokenize)})


def _require_splits(rows: int, spec: DatasetSpec) -> None:
    for name, (start, end) in split_bounds(rows, spec.splits).items():
        if end <= start:
            raise SplitEmpty(f"Split {name!r} gets none of the {rows} rows.", pointer=f"/splits/{name}")


def _require_transforms(info: DatasetInfo, spec: DatasetSpec) -> None:
    for name, transforms in spec.preprocess.items():
        place = "/preprocess/" + name.replace("~", "~0").replace("/", "~1")
        if name not in info.arrays or name == LABELS:
            raise UnknownInput(f"The data set has no input array {name!r}.", pointer=place)
        shape, dtype = info.arrays[name].shape[1:], info.arrays[name].dtype
        for index, transform in enumerate(transforms):
            try:
                shape, dtype = transform.after(shape, dtype)
            except TransformMismatch as error:
                raise TransformDoesNotFit(f"Input {name!r}: {error}.", pointer=f"{place}/{index}") from error
