"""Models too large for one protobuf message get a second file; nothing of their exporter stays in either."""

from pathlib import Path

import numpy as np
import onnx

from tests.support.engine.orders import outputs_of
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.file import bytes_on_disk, save
from worker.engine.onnx_graph.preprocess import name_nodes


def test_a_large_model_keeps_its_tensors_beside_it(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    original = digits_folder / "digits.onnx"
    for _ in range(2):  # the second time over the files of the first
        files = save(onnx.load(original), tmp_path / "model.onnx", whole_below=100_000)

    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"]
    assert files[0].stat().st_size < 20_000
    assert bytes_on_disk(files[0]) == sum(file.stat().st_size for file in files)
    assert bytes_on_disk(files[0]) < 1.05 * original.stat().st_size
    inputs, _ = next(digits_test.batches(8))
    assert np.array_equal(outputs_of(original, inputs)[0], outputs_of(files[0], inputs)[0])


def test_a_small_model_is_one_file(digits_folder: Path, tmp_path: Path) -> None:
    assert save(onnx.load(digits_folder / "digits.onnx"), tmp_path / "model.onnx") == [tmp_path / "model.onnx"]


def test_every_node_gets_a_name_of_its_own() -> None:
    nodes = [onnx.helper.make_node("Relu", ["x"], [f"y{i}"], name) for i, name in enumerate(["", "a", "a", "", "b"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))

    name_nodes(model)

    names = [node.name for node in model.graph.node]
    assert len(set(names)) == 5
    assert all(names)
    assert names[4] == "b"
    assert "a" in names
