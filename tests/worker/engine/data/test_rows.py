"""Rows come from disk one batch at a time, as the data set declares."""

import io
import itertools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from app.spec.data import DatasetSpec, split_bounds
from tests.support.engine.orders import data_file
from worker.engine.data.errors import UnreadableData
from worker.engine.data.rows import Rows


def everything(rows: Rows, size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    batches = list(rows.batches(size))
    inputs = {name: np.concatenate([inputs[name] for inputs, _ in batches]) for name in batches[0][0]}
    return inputs, np.concatenate([labels for _, labels in batches])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "u1", "?"])
def test_rows_are_those_of_the_arrays(save, order, dtype, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 2, (50, 7, 3)), dtype=dtype, order=order)
    save(tmp_path / "rows.npz", image=array, y=np.arange(50))

    rows = Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()))

    inputs, labels = everything(rows, 16)
    assert np.array_equal(inputs["image"], array)
    assert inputs["image"].dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(labels, np.arange(50))
    again, _ = everything(rows, 7)
    assert np.array_equal(inputs["image"], again["image"])


def test_splits_share_out_every_row_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(101), y=np.arange(101))
    spec = DatasetSpec(splits={"train": 0.5, "calibration": 0.2, "test": 0.3}, seed=3)

    parts = {name: everything(Rows.open(tmp_path, data_file("rows.npz", spec, name)), 8)[1] for name in spec.splits}

    assert {name: len(part) for name, part in parts.items()} == {"train": 50, "calibration": 20, "test": 31}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(101))
    assert list(parts["train"]) != sorted(parts["train"]), "rows are shuffled"
    again = everything(Rows.open(tmp_path, data_file("rows.npz", spec, "train")), 8)[1]
    assert np.array_equal(parts["train"], again)
    other = everything(Rows.open(tmp_path, data_file("rows.npz", spec.model_copy(update={"seed": 4}), "train")), 8)[1]
    assert not np.array_equal(parts["train"], other)


@pytest.mark.parametrize("rows", [1, 3, 10, 999, 1_000_003])
def test_shares_that_add_up_to_one_leave_no_row(rows: int) -> None:
    bounds = list(split_bounds(rows, {"a": 0.1, "b": 0.2, "c": 0.7}).values())

    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(first[1] == second[0] for first, second in itertools.pairwise(bounds))


def test_a_sample_is_a_fixed_subset(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(100), y=np.arange(100))
    rows = Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()))

    sample = rows.sample(10, seed=1)

    assert len(sample) == 10
    assert np.array_equal(sample.indices, rows.sample(10, seed=1).indices)
    assert not np.array_equal(sample.indices, rows.sample(10, seed=2).indices)
    assert rows.sample(100, seed=1) is rows


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(3))
    with pytest.raises(UnreadableData, match="named image"):
        Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()), ["image"])


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.arange(3), y=np.arange(4))
    with pytest.raises(UnreadableData, match="number of rows"):
        Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()))


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(UnreadableData, match="object"):
        Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()))


def test_a_truncated_array_is_an_error(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10, 4)})
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(4))
    rows = Rows.open(tmp_path, data_file("rows.npz", DatasetSpec()))
    with pytest.raises(UnreadableData, match="ends before"):
        list(rows.sample(3, 0).batches(4))


MEMORY = """
import pathlib, resource, sys
from app.spec.data import DatasetSpec
from tests.support.engine.orders import data_file
from worker.engine.data.rows import Rows
folder = pathlib.Path(sys.argv[1])
rows = Rows.open(folder, data_file("rows.npz", DatasetSpec()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(inputs["x"].sum() for inputs, _ in rows.batches(16))
print(int(total), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_array(save, tmp_path: Path) -> None:
    save(tmp_path / "rows.npz", x=np.ones((2000, 128, 256), np.uint8))  # 64 MB

    ran = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)

    total, grown_mib = map(int, ran.stdout.split())
    assert total == 2000 * 128 * 256
    assert grown_mib < 16


def test_an_input_called_y_is_fed_by_the_array_y(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(tmp_path / "rows.npz", x=values, y=-values)
    file = data_file("rows.npz", DatasetSpec())

    inputs, labels = next(Rows.open(tmp_path, file, ["x", "y"]).batches(4))
    assert np.array_equal(inputs["y"], -values)
    assert labels is None
    inputs, labels = next(Rows.open(tmp_path, file, ["x"]).batches(4))
    assert list(inputs) == ["x"]
    assert np.array_equal(labels, -values)
