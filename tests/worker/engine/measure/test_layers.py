"""Error per layer: found by name, measured against a plain oracle, in groups."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.engine.measured_models import (
    FakeRows,
    conv_net,
    dynamic_int8,
    images,
    linear_net,
    signature,
    static_int8,
    with_scaled_weights,
)
from worker.engine.measure.batching import BatchRange
from worker.engine.measure.layers import ROWS, VALUES_AT_ONCE, matching_layers, measure_layers
from worker.engine.measure.running import runner
from worker.engine.onnx_graph.sessions import session

ANY = BatchRange.of(signature())


def measured(before: Path, after: Path, rows: FakeRows | None = None) -> tuple:
    return measure_layers(before, after, rows or FakeRows({"image": images(20)}), ANY, 1, lambda done: None)


def exposed(model: Path, value: str) -> np.ndarray:
    loaded = onnx.load(model)
    loaded.graph.output.append(onnx.ValueInfoProto(name=value))
    return runner(session(loaded.SerializeToString(), 1))({"image": images(20)})[value].astype(np.float64)


def sqnr(before: np.ndarray, after: np.ndarray) -> float:
    return float(10 * np.log10((before**2).sum() / ((after - before) ** 2).sum()))


def test_static_int8_against_an_oracle(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    artifact = static_int8(original, tmp_path / "q.onnx", images(64, seed=1))

    layers, notes = measured(original, artifact)

    assert notes == ()
    found = {layer.name: layer.sqnr_db for layer in layers}
    twin = sqnr(exposed(original, "r1"), exposed(artifact, "r1_DequantizeLinear_Output"))
    assert found["/conv1"] == pytest.approx(twin, abs=0.2), "the convolution took over the name of its fused ReLU"
    assert found["/head"] == pytest.approx(sqnr(exposed(original, "scores"), exposed(artifact, "scores")), abs=0.2)


def test_the_damaged_layer_is_where_the_error_begins(tmp_path: Path) -> None:
    original = linear_net(tmp_path / "f.onnx", layers=4)
    damaged = with_scaled_weights(original, tmp_path / "d.onnx", {"w2": 1.1})

    layers, _ = measured(original, damaged)

    assert [layer.name for layer in layers] == ["/in", "/layer0", "/layer1", "/layer2", "/layer3", "/out"]
    assert [layer.sqnr_db for layer in layers[:3]] == [None, None, None]
    assert [layer.sqnr_db for layer in layers[3:]] == [pytest.approx(20, abs=0.01)] * 3


def test_more_layers_than_fit_one_group(tmp_path: Path) -> None:
    count = VALUES_AT_ONCE + 5
    original = linear_net(tmp_path / "f.onnx", layers=count, width=16)
    artifact = dynamic_int8(original, tmp_path / "q.onnx")
    fractions: list[float] = []

    layers, notes = measure_layers(original, artifact, FakeRows({"image": images(8)}), ANY, 1, fractions.append)

    assert notes == ()
    assert len(layers) == count + 2
    assert fractions == [pytest.approx(VALUES_AT_ONCE / (count + 2)), 1.0]
    assert layers[0].sqnr_db is not None
    assert layers[-1].sqnr_db is not None
    assert layers[0].sqnr_db > layers[-1].sqnr_db, "errors add up"


def test_no_more_rows_than_needed_are_read(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")

    class Counted(FakeRows):
        read = 0

        def batches(self, size: int):
            for batch in super().batches(size):
                self.read += len(batch[0]["image"])
                yield batch

    rows = Counted({"image": images(500)})
    measured(original, original, rows)

    assert rows.read == ROWS


def test_renamed_values_are_said_to_be_lost(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    renamed = onnx.load(original)
    for node in renamed.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in {"c1", "r1", "c2", "a2", "r2", "flat"}:
                    names[index] = f"other_{name}"
    onnx.save(renamed, tmp_path / "renamed.onnx")

    layers, notes = measured(original, tmp_path / "renamed.onnx")

    assert [layer.name for layer in layers] == ["/head"]
    assert notes == ("Error per layer: only 1 of 4 layers could be found again by name in the delivered graph.",)


def test_weights_in_a_side_file(tmp_path: Path) -> None:
    original = conv_net(tmp_path / "f.onnx")
    apart = tmp_path / "apart" / "f.onnx"
    apart.parent.mkdir()
    onnx.save(onnx.load(original), apart, save_as_external_data=True, location="f.data", size_threshold=0)

    layers, _ = measured(original, apart)

    assert len(layers) == 4
    assert all(layer.sqnr_db is None for layer in layers)


def test_a_fixed_batch(tmp_path: Path) -> None:
    fixed = conv_net(tmp_path / "fixed.onnx", batch=3)

    layers, _ = measure_layers(
        fixed, fixed, FakeRows({"image": images(7)}), BatchRange.of(signature(batch=3)), 1, lambda done: None
    )

    assert len(layers) == 4


def test_graphs_without_layers_have_none() -> None:
    empty = onnx.GraphProto()

    assert matching_layers(empty, empty) == ([], 0)
