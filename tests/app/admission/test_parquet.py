"""What the footer of a Parquet file says becomes the description of a data set."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.admission import AdmissionError, admit_dataset
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from app.spec.signature import Dimension
from tests.support.pictures import picture


@pytest.fixture
def given(tmp_path: Path) -> Any:
    """Admits a table under a declaration."""

    def admit(
        table: dict[str, Any] | pa.Table, *, limit: int = 1 << 30, groups: int = 1 << 20, **spec: Any
    ) -> DatasetInfo:
        pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), tmp_path / "t", row_group_size=groups)
        return admit_dataset(tmp_path / "t", DatasetSpec.model_validate(spec), max_inflated_bytes=limit)

    return admit


def refused(given: Any, table: Any, **arguments: Any) -> AdmissionError:
    with pytest.raises(AdmissionError) as error:
        given(table, **arguments)
    return error.value


def test_columns_are_arrays(given: Any) -> None:
    table = {
        "x": list(np.ones((6, 4), "f4")),
        "nested": np.zeros((6, 2, 3), "i8").tolist(),
        "image": [{"bytes": picture(), "path": "a.png"}] * 6,
        "text": ["a"] * 6,
        "when": pa.array([0] * 6, pa.timestamp("s")),
        "y": pa.array([3, 1, 4, 1, 5, 9], pa.uint8()),
    }
    assert given(table, groups=4, shapes={"nested": [3, 2], "x": [2, 2]}) == DatasetInfo(
        format="parquet",
        rows=6,
        arrays={
            "x": ArraySpec(dtype="float32", shape=(6, 2, 2)),
            "nested": ArraySpec(dtype="int64", shape=(6, 3, 2)),
            "image": ArraySpec(dtype="uint8", shape=(6, 3, Dimension(name="height"), Dimension(name="width"))),
            "y": ArraySpec(dtype="uint8", shape=(6,)),
        },
        label_range=(1, 9),
    )


def test_labels_without_statistics_have_no_range(given: Any, tmp_path: Path) -> None:
    assert given({"x": [1.0, 2.0], "y": [-4, 3]}).label_range == (-4, 3)
    assert given({"x": [1.0, 2.0], "y": [0.5, 1.5]}).label_range is None
    pq.write_table(pa.table({"x": [1.0], "y": [1]}), tmp_path / "t", write_statistics=False)
    assert admit_dataset(tmp_path / "t", DatasetSpec(), max_inflated_bytes=1 << 30).label_range is None


@pytest.mark.parametrize("shape", [[5], [2, 3], [3, 0]])
def test_a_shape_has_as_many_values(given: Any, shape: list[int]) -> None:
    table = {"x": np.ones((6, 4)).tolist(), "y": [0] * 6}
    if 0 in shape:
        with pytest.raises(ValueError, match="greater than or equal to 1"):
            given(table, shapes={"x": shape})
    else:
        assert refused(given, table, shapes={"x": shape}).code == "dataset.shape_mismatch"
    assert refused(given, table, shapes={"z": [4]}).code == "dataset.shape_mismatch"


def test_pictures_have_no_declared_shape(given: Any) -> None:
    assert refused(given, {"image": [picture()]}, shapes={"image": [3, 6, 6]}).code == "dataset.shape_mismatch"


def test_bytes_are_counted_unpacked(given: Any) -> None:
    zeros = {"x": np.zeros(1 << 20)}  # a few hundred bytes in the file
    assert given(zeros).rows == 1 << 20
    assert refused(given, zeros, limit=1 << 22).code == "dataset.decompression_bomb"


def test_preprocessing_and_splits_are_checked(given: Any) -> None:
    table = {"image": [picture()] * 4}
    crop = {"type": "center_crop", "height": 8, "width": 8}
    assert refused(given, table, preprocess={"image": [crop]}).code == "dataset.transform_mismatch"
    sized = [{"type": "to_float"}, {"type": "resize_shorter", "size": 8}, crop]
    assert given(table, preprocess={"image": sized}).rows == 4
    assert refused(given, table, splits={"a": 0.1}).code == "dataset.split_empty"


def test_nothing_that_unpacks_pages_is_loaded() -> None:
    """The service reads the footer by itself."""
    import subprocess

    code = "import app.admission, sys; print([m for m in ('pyarrow', 'PIL', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_large_footer_is_read_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, pa.schema([(f"c{n}", pa.float32()) for n in range(40)])) as writer:
        for _ in range(150):
            writer.write_table(pa.table({f"c{n}": pa.array([1.0], pa.float32()) for n in range(40)}))
    (tmp_path / "t").write_bytes(buffer.getvalue())
    del buffer
    tracemalloc.start()
    assert admit_dataset(tmp_path / "t", DatasetSpec(), max_inflated_bytes=1 << 30).rows == 150
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20
