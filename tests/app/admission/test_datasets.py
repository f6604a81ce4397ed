"""Data sets are admitted, measured and matched with what their owner declares."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.admission import AdmissionError, admit_dataset
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from tests.support.hostile.datasets import npy, npz
from worker.engine.data.npz import open_arrays

GIB = 1 << 30
IMAGES = np.zeros((10, 4, 4, 3), np.uint8)


@pytest.fixture
def given(tmp_path: Path) -> Any:
    """Admits arrays, saved by numpy, under a declaration."""

    def admit(*, compressed: bool = False, spec: dict[str, Any] | None = None, **arrays: Any) -> DatasetInfo:
        path = tmp_path / "upload"
        with path.open("wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, **arrays)
        return admit_dataset(path, DatasetSpec.model_validate(spec or {}), max_inflated_bytes=GIB)

    return admit


def refused(given: Any, **arguments: Any) -> AdmissionError:
    with pytest.raises(AdmissionError) as error:
        given(**arguments)
    return error.value


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_described(given: Any, *, compressed: bool) -> None:
    labels = np.array([3, -1, 7, 0, 0, 0, 0, 0, 0, 2])
    info = given(compressed=compressed, image=IMAGES, y=labels)
    assert info == DatasetInfo(
        format="npz",
        rows=10,
        arrays={"image": ArraySpec(dtype="uint8", shape=(10, 4, 4, 3)), "y": ArraySpec(dtype="int64", shape=(10,))},
        label_range=(-1, 7),
    )


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_every_dtype_of_the_contract(given: Any, dtype: str) -> None:
    info = given(x=np.ones((3, 2), dtype))
    assert np.dtype(info.arrays["x"].dtype) == np.dtype(dtype)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["input:0", "c:0", "block/input:0"])
def test_a_name_may_hold_a_colon(given: Any, tmp_path: Path, name: str, *, compressed: bool) -> None:
    """TensorFlow names its inputs so."""
    assert given(compressed=compressed, **{name: IMAGES}).arrays.keys() == {name}
    stored = open_arrays(tmp_path / "upload", tmp_path / "scratch")
    assert np.array_equal(stored[name].take(np.arange(10)), IMAGES)


@pytest.mark.parametrize("name", ["../c:0", "/c:0", "c:\\x", "c:0\n"])
def test_a_name_with_a_colon_still_stays_inside(given: Any, name: str) -> None:
    assert refused(given, **{name: IMAGES}).code == "archive.unsafe_member"


def test_float_labels_have_no_range(given: Any) -> None:
    assert given(x=IMAGES, y=np.linspace(0, 1, 10)).label_range is None


def test_the_label_range_spans_the_whole_array(given: Any) -> None:
    labels = np.zeros(1_000_003, np.int16)
    labels[-1], labels[500_000] = 9, -4
    assert given(x=np.zeros(1_000_003, np.int8), y=labels).label_range == (-4, 9)


def test_values_are_read_across_chunks(given: Any) -> None:
    """Items of eight bytes behind a header of any length do not end where chunks end."""
    numbers = np.arange(400_000, dtype=np.int64).reshape(-1, 1)
    assert given(x=numbers, y=numbers[:, 0]).label_range == (0, 399_999)


def test_a_single_column_in_fortran_order_is_the_same_bytes(given: Any) -> None:
    assert given(x=np.asfortranarray(np.ones(5))).rows == 5


def test_a_header_of_version_3_is_read(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(npz(x=npy("(2,)", data=b"\0" * 8, version=3)))
    assert admit_dataset(path, DatasetSpec(), max_inflated_bytes=GIB).rows == 2


def test_splits_must_get_rows(given: Any) -> None:
    spec = {"splits": {"train": 0.9, "test": 0.05}}
    error = refused(given, x=IMAGES, spec=spec)
    assert (error.code, error.pointer) == ("dataset.split_empty", "/splits/test")
    assert given(x=IMAGES, spec={"splits": {"train": 0.9, "test": 0.1}}).rows == 10


def test_transforms_must_fit(given: Any) -> None:
    fitting = [{"type": "channels_first"}, {"type": "to_float"}, {"type": "center_crop", "height": 2, "width": 2}]
    assert given(image=IMAGES, spec={"preprocess": {"image": fitting}}).rows == 10
    wrong = [{"type": "channels_first"}, {"type": "normalize", "mean": [0.5], "std": [0.5]}]
    error = refused(given, image=IMAGES, spec={"preprocess": {"image": wrong}})
    assert (error.code, error.pointer) == ("dataset.transform_mismatch", "/preprocess/image/1")
    assert "to_float" in error.detail


@pytest.mark.parametrize("name", ["picture", "y"])
def test_transforms_name_an_input(given: Any, name: str) -> None:
    error = refused(given, image=IMAGES, y=np.zeros(10, np.uint8), spec={"preprocess": {name: []}})
    assert (error.code, error.pointer) == ("dataset.unknown_input", f"/preprocess/{name}")


def test_a_pointer_escapes_the_name(given: Any) -> None:
    error = refused(given, image=IMAGES, spec={"preprocess": {"a/b~c": []}})
    assert error.pointer == "/preprocess/a~1b~0c"


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_does_not_grow_with_the_rows(given: Any, *, compressed: bool) -> None:
    peaks = []
    for rows in (1 << 12, 1 << 18):
        noise = np.random.default_rng(0).normal(size=(rows, 32)).astype(np.float32)
        given(compressed=compressed, x=noise)  # imports and caches are not the subject
        content = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(content, x=noise)
        del noise
        peaks.append(_peak(content.getvalue()))
    assert peaks[1] < 16 << 20


def _peak(content: bytes) -> int:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        tracemalloc.start()
        admit_dataset(Path(file.name), DatasetSpec(), max_inflated_bytes=GIB)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_the_total_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with path.open("wb") as file:
        np.savez_compressed(file, x=np.zeros((1000, 100), np.float32))
    with pytest.raises(AdmissionError) as error:
        admit_dataset(path, DatasetSpec(), max_inflated_bytes=100_000)
    assert error.value.code == "dataset.decompression_bomb"


def test_what_to_send_instead_is_said(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(AdmissionError) as error:
        admit_dataset(path, DatasetSpec(), max_inflated_bytes=GIB)
    assert (error.value.code, error.value.status) == ("dataset.unsupported_format", 415)
    assert "np.savez" in error.value.remedy
