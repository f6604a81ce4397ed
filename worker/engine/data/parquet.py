"""Columns of a Parquet file, written out once per job as plain rows: a page cannot be read at a row.

Numbers become raw arrays. Pictures stay as they are, one behind the other in one file, with the offset of each.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.admission.errors import AdmissionError, Broken, Inflating
from app.admission.sniff import sniff
from app.admission.text_archive import TextArchive
from app.spec.data import ArraySpec
from app.spec.work import DataFile
from worker.engine.data.errors import BrokenImage, UnreadableData
from worker.engine.data.images import UndecodableImage, decode
from worker.engine.data.npz import StoredArray
from worker.engine.data.text import open_text

BATCH_ROWS = 64
"""Rows unpacked at a time: pictures of a few hundred kilobytes are some ten megabytes."""
BYTES_FIELD = "bytes"


@dataclass(frozen=True)
class StoredPictures:
    """PNG and JPEG files one behind the other; each row is one, decoded to uint8 `[3, height, width]`."""

    path: Path
    offsets: np.ndarray
    """Where each begins, and the end of the last: int64 `[rows + 1]`."""
    uniform: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The pictures at these positions, which must be of one size; raises `BrokenImage`, `UnreadableData`."""
        with self.path.open("rb", buffering=0) as file:
            pictures = [self._decoded(file, int(row)) for row in rows]
        if len({picture.shape for picture in pictures}) > 1:
            raise UnreadableData("The pictures differ in size.")
        return np.stack(pictures)

    def _decoded(self, file: IO[bytes], row: int) -> np.ndarray:
        file.seek(self.offsets[row])
        try:
            return decode(file.read(int(self.offsets[row + 1] - self.offsets[row])))
        except UndecodableImage as error:
            raise BrokenImage(f"Picture {row} of the data set is {error}.") from error


def open_parquet(
    path: Path, file: DataFile, scratch: Path, wanted: Collection[str]
) -> dict[str, StoredArray | StoredPictures]:
    """The `wanted` columns that admission found, by name; raises `UnreadableData`."""
    pa.set_cpu_count(1)
    pa.set_memory_pool(pa.system_memory_pool())  # gives memory back; the default keeps it
    names = [name for name in file.info.arrays if name in wanted]
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(path) as (source, tokenizer_json):
            declared = file.spec.tokenize
            made = declared.arrays() if declared is not None else {}
            tokens = {name: _plain(name, file, path, scratch) for name in names if name in made}
            columns = {name: _column(source, name, file, path, scratch) for name in names if name not in made}
            return columns | open_text(source, file, tokenizer_json, tokens)
    except (AdmissionError, Broken, Inflating) as error:
        raise UnreadableData(f"The data set is no longer what was admitted: {error}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UnreadableData(f"The data set is not a readable Parquet file: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pq.ParquetFile, bytes]]:
    """The table and its tokenizer.json: both in a zip, or the table alone and nothing."""
    with path.open("rb") as file:
        archive = None
        if sniff(file) == "zip":
            archive = TextArchive.open(file, path.stat().st_size, max_inflated_bytes=path.stat().st_size * 1032)
        table = path if archive is None else archive.parquet()
        with pq.ParquetFile(table, memory_map=False, pre_buffer=False, buffer_size=1 << 20) as source:
            yield source, archive.tokenizer_json() if archive is not None and archive.tokenizer is not None else b""


def _plain(name: str, file: DataFile, path: Path, scratch: Path) -> Path:
    """Where a column is written out."""
    return scratch / f"{path.name}-{list(file.info.arrays).index(name)}.rows"


def _column(
    source: pq.ParquetFile, name: str, file: DataFile, path: Path, scratch: Path
) -> StoredArray | StoredPictures:
    declared = file.info.arrays[name]
    picture = name not in file.spec.shapes and any(not isinstance(size, int) for size in declared.shape)
    values_path = _plain(name, file, path, scratch)
    return _pictures(source, name, values_path) if picture else _numbers(source, name, declared, values_path)


def _numbers(source: pq.ParquetFile, name: str, declared: ArraySpec, values_path: Path) -> StoredArray:
    shape = tuple(size for size in declared.shape if isinstance(size, int))
    dtype, values = np.dtype(declared.dtype), int(np.prod(shape[1:], dtype=np.int64))
    rows = 0
    if not values_path.exists():
        partial = values_path.with_suffix(".partial")
        with partial.open("wb") as out:
            for column in _batches(source, name, [name]):
                flattened = _flattened(column, name, values)
                if flattened.dtype != dtype:
                    raise UnreadableData(f"Column {name} holds {flattened.dtype}, its footer says {dtype}.")
                if dtype.kind == "f" and not np.isfinite(flattened).all():
                    raise UnreadableData(f"Column {name} holds NaN or infinite values.")
                out.write(np.ascontiguousarray(flattened).data)
                rows += len(column)
        if rows != shape[0]:
            raise UnreadableData(f"Column {name} has {rows} rows, its footer says {shape[0]}.")
        partial.rename(values_path)
    return StoredArray(values_path, 0, dtype, shape)


def _flattened(column: pa.Array, name: str, values: int) -> np.ndarray:
    """The values of these rows, one behind the other; every row must have as many."""
    rows = len(column)
    while not pa.types.is_primitive(column.type):
        if column.null_count:
            raise UnreadableData(f"Column {name} has rows without a value.")
        if not pa.types.is_fixed_size_list(column.type):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            if len(lengths) and (lengths != lengths[0]).any():
                raise UnreadableData(f"Lists in column {name} differ in length.")
        column = column.flatten()
    if column.null_count or len(column) != rows * values:
        raise UnreadableData(f"A row of column {name} does not have {values} values.")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _pictures(source: pq.ParquetFile, name: str, values_path: Path) -> StoredPictures:
    struct = pa.types.is_struct(source.schema_arrow.field(name).type)
    ends, offsets = values_path.with_suffix(".ends"), [np.zeros(1, np.int64)]
    if not ends.exists():
        with values_path.open("wb") as out:
            for column in _batches(source, name, [f"{name}.{BYTES_FIELD}" if struct else name]):
                content = column.field(BYTES_FIELD) if struct else column
                if column.null_count or content.null_count:
                    raise UnreadableData(f"Column {name} has rows without a picture in the file.")
                sizes = [out.write(picture.as_buffer()) for picture in content]
                offsets.append(offsets[-1][-1] + np.cumsum(sizes, dtype=np.int64))
        np.concatenate(offsets).tofile(ends)
    return StoredPictures(values_path, np.fromfile(ends, np.int64))


def _batches(source: pq.ParquetFile, name: str, leaves: list[str]) -> Iterator[pa.Array]:
    for batch in source.iter_batches(BATCH_ROWS, columns=leaves, use_threads=False):
        if batch.num_columns != 1:
            raise UnreadableData(f"There is more than one column {name}.")
        yield batch.column(0)
