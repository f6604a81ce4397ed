"""Rows of the arrays in an `.npz`, read one by one: no array is ever in memory whole, and nothing is unpickled."""

import shutil
import zipfile
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.lib import format as npy

from worker.engine.data.errors import UnreadableData

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredArray:
    """An uncompressed, C-ordered array that starts at `offset` of a file; `shape` includes the rows.

    Rows are read, not memory-mapped: mapped pages count as resident memory of the job.
    """

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    uniform: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows at these positions, in this order, in the machine's byte order."""
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        buffer = taken.reshape(-1).view(np.uint8).data
        with self.path.open("rb", buffering=0) as file:
            for place, row in enumerate(rows):
                _read_exactly(file, self.offset + int(row) * size, buffer[place * size : (place + 1) * size])
        return taken.astype(self.dtype.newbyteorder("="), copy=False)


def _read_exactly(file: FileIO, offset: int, into: memoryview) -> None:
    file.seek(offset)
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])
        if not count:
            raise UnreadableData("An array of the data set ends before its last row.")
        done += count


def open_arrays(path: Path, scratch: Path) -> dict[str, StoredArray]:
    """Every array of the archive at `path`, by name. Compressed ones are inflated once, into `scratch`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            return {member.filename.removesuffix(".npy"): _open(archive, member, path, scratch) for member in members}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise UnreadableData(f"The data set is not a readable .npz: {error}") from error


def _open(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, scratch: Path) -> StoredArray:
    with archive.open(member) as stream:
        dtype, shape, column_major = _header(stream)
        start = stream.tell()
        stored = member.compress_type == zipfile.ZIP_STORED
        if stored and not column_major:
            return StoredArray(path, _data_offset(path, member) + start, dtype, shape)
        array_path = scratch / f"{path.stem}-{member.CRC:08x}-{member.file_size}.npy"
        if not array_path.exists():
            _inflate(stream, array_path)
    return _row_major(array_path, dtype, shape) if column_major else StoredArray(array_path, 0, dtype, shape)


def _header(stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...], bool]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, column_major, dtype = read(stream)
    if dtype.hasobject or dtype.fields is not None or dtype.kind not in "biuf":
        raise UnreadableData(f"The data set holds an array of {dtype}; arrays must be numbers or booleans.")
    return dtype, shape, column_major and len(shape) > 1


def _data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the member's bytes begin: its local header has its own name and extra lengths (APPNOTE 4.3.7)."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return member.header_offset + 30 + name + extra


def _inflate(stream: IO[bytes], array_path: Path) -> None:
    """Write what is left of `stream`; the final name appears only when the file is complete."""
    array_path.parent.mkdir(parents=True, exist_ok=True)
    partial = array_path.with_suffix(".partial")
    with partial.open("wb") as file:
        shutil.copyfileobj(stream, file, COPY_BYTES)
    partial.rename(array_path)


def _row_major(array_path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> StoredArray:
    """Rewrite a Fortran-ordered array row by row, a block of rows at a time."""
    transposed = array_path.with_suffix(".rows")
    if not transposed.exists():
        columns = np.memmap(array_path, dtype, "r", 0, shape, order="F")
        row_bytes = max(1, dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64)))
        step = max(1, COPY_BYTES // row_bytes)
        partial = array_path.with_suffix(".partial")
        with partial.open("wb") as file:
            for start in range(0, shape[0], step):
                file.write(np.ascontiguousarray(columns[start : start + step]).tobytes())
        partial.rename(transposed)
    return StoredArray(transposed, 0, dtype, shape)
