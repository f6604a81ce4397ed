"""Columns of Parquet files, as pyarrow and Hugging Face write them, become rows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.admission import AdmissionError, admit_dataset
from app.spec.data import DatasetSpec
from app.spec.work import DataFile
from tests.support.engine.tables import opened
from tests.support.pictures import picture
from worker.engine.data.errors import BrokenImage, UnreadableData
from worker.engine.data.images import decode
from worker.engine.data.rows import Rows

ROWS = 150


def written(folder: Path, table: pa.Table | dict[str, Any], **options: Any) -> Path:
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), folder / "data", **options)
    return folder / "data"


def everything(rows: Rows) -> tuple[dict[str, np.ndarray], np.ndarray]:
    ((inputs, labels),) = rows.batches(10_000)
    assert labels is not None
    return inputs, labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 40},
        {"compression": "zstd"},
        {"compression": "none"},
        {"use_dictionary": False},
        {"data_page_version": "2.0", "compression": "gzip"},
    ],
)
def test_numbers_and_lists(options: dict[str, Any], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    flat, image = random.normal(size=(ROWS, 4)).astype("f4"), random.integers(0, 256, (ROWS, 3, 2, 5), np.uint8)
    table = {
        "x": list(flat),
        "image": pa.array(image.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), 4),
        "scalar": flat[:, 0],
        "text": ["not for a model"] * ROWS,
        "y": np.arange(ROWS) % 7,
    }
    rows = opened(written(tmp_path, table, **options), shapes={"image": [3, 2, 5]})

    inputs, labels = everything(rows)

    assert inputs.keys() == {"x", "image", "fixed", "scalar"}
    assert np.array_equal(inputs["x"], flat)
    assert np.array_equal(inputs["fixed"], flat)
    assert np.array_equal(inputs["scalar"], flat[:, 0])
    assert inputs["image"].dtype == np.uint8
    assert np.array_equal(inputs["image"], image)
    assert np.array_equal(labels, np.arange(ROWS) % 7)
    some = rows.sample(5, seed=1)
    assert np.array_equal(everything(some)[0]["x"], flat[some.indices])


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_every_dtype(dtype: str, tmp_path: Path) -> None:
    values = np.arange(ROWS).astype(dtype)
    inputs, _ = everything(opened(written(tmp_path, {"x": values, "y": np.arange(ROWS)})))
    assert inputs["x"].dtype == np.dtype(dtype)
    assert np.array_equal(inputs["x"], values)


@pytest.mark.parametrize("struct", [False, True])
def test_pictures_as_hugging_face_writes_them(tmp_path: Path, *, struct: bool) -> None:
    files = [picture(20 + n, 30, seed=n, form="JPEG" if n % 2 else "PNG") for n in range(9)]
    column = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(files)] if struct else files
    path = written(tmp_path, {"image": column, "y": list(range(9))})
    with pytest.raises(UnreadableData, match="differ in size"):
        everything(opened(path))

    steps = [{"type": "to_float"}, {"type": "resize", "height": 8, "width": 8}]
    inputs, labels = everything(opened(path, ["image"], preprocess={"image": steps}))

    assert inputs["image"].shape == (9, 3, 8, 8)
    assert list(labels) == list(range(9))
    one = Rows.open(
        tmp_path,
        DataFile(
            path="data",
            info=admit_dataset(path, DatasetSpec(), max_inflated_bytes=1 << 30),
            spec=DatasetSpec(),
            split=None,
        ),
    )
    assert np.array_equal(one.arrays["image"].take(np.array([3]))[0], decode(files[3]))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    whole = picture(64, 64)
    rows = opened(written(tmp_path, {"image": [whole, whole[:2000]]}))
    with pytest.raises(BrokenImage, match="Picture 1"):
        list(rows.batches(2))


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ([[1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [1.0] * 3], "differ in length"),
        (np.array([1.0, np.nan, 2.0]), "NaN"),
        (pa.array([1.0, None, 2.0]), None),
        (pa.array([[1.0], None, [2.0]]), None),
        ([[1.0], [], [2.0]], None),
        ([picture(), None, picture()], None),
    ],
    ids=["ragged", "nan", "null", "null list", "empty list", "null picture"],
)
def test_what_does_not_make_rows_is_refused(column: Any, sentence: str | None, tmp_path: Path) -> None:
    for statistics in (True, False):
        path = written(tmp_path, {"x": column, "y": [0, 1, 2]}, write_statistics=statistics)
        with pytest.raises((UnreadableData, AdmissionError), match=sentence):
            everything(opened(path))


MEMORY = """
import pathlib, resource, sys
from tests.support.engine.tables import opened
path = pathlib.Path(sys.argv[1])
list(opened(path / "small" / "data").batches(16))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(len(inputs["x"]) for inputs, _ in opened(path / "large" / "data").batches(16))
print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_is_bounded_by_a_row_group(tmp_path: Path) -> None:
    """64 groups of 4 MB: 256 MB of floats go by."""
    for name, groups in (("small", 2), ("large", 64)):
        (tmp_path / name).mkdir()
        values = np.random.default_rng(0).normal(size=1 << 20).astype("f4")
        schema = pa.schema([("x", pa.list_(pa.float32()))])
        with pq.ParquetWriter(tmp_path / name / "data", schema, compression="none", use_dictionary=False) as writer:
            offsets = np.arange(0, (1 << 20) + 1, 1 << 12, dtype=np.int32)
            for _ in range(groups):
                writer.write_table(pa.table({"x": pa.ListArray.from_arrays(offsets, values)}, schema))
    ran = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)

    total, grown_mib = map(int, ran.stdout.split())
    assert total == 64 * 256
    assert grown_mib < 32
