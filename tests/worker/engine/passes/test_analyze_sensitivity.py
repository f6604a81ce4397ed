"""Sensitivity is measured layer by layer, told three ways, and changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.spec.sensitivity import AnalyzeSensitivity
from tests.support.engine.orders import changed, context, model_of, outputs_of, rows_of, signature_of, sqnr_db
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.torch_program.pt2 import load_program


@pytest.fixture(scope="module")
def digits_program(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("program")
    signature = signature_of(digits_folder / "digits.onnx")
    return Model(load_program(digits_folder / "digits.pt2", signature, folder), signature, new_folder(folder))


def analyzed(model: Model, rows: Rows, folder: Path, **step) -> Changed:
    return apply_step(AnalyzeSensitivity(**step), model, context(folder, rows))


def test_rounding_one_layer_at_a_time(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    model = model_of(digits_folder / "digits.onnx", tmp_path)
    result = analyzed(model, digits_calibration, tmp_path, samples=100)

    (table,), (chart,) = result.tables, result.charts
    assert result.model is model
    assert table.columns[:5] == ("Layer", "Operator", "Weights", "8 bits, dB", "4 bits, dB")
    assert len(table.rows) == len(chart.x) == 5
    for row, eight, four in zip(table.rows, *(series.values for series in chart.series), strict=True):
        assert row[3:5] == (round(eight, 2), round(four, 2))
        assert 20 < four < eight - 3 < 60
    assert all(row[5] <= 1 for row in table.rows), "top-1 is lost by at most a point"
    written = json.loads(result.files["sensitivity.json"].read_text())
    assert written["top1"] > 0.97
    assert [layer["layer"] for layer in written["layers"]] == list(chart.x)
    assert result.facts["lowest_sqnr_db"] == pytest.approx(min(row[4] for row in table.rows), abs=0.01)


@pytest.mark.parametrize(("what", "layers"), [("prune.weights", 5), ("prune.channels", 4)])
def test_pruning_one_layer_at_a_time(
    what, layers, digits_program: Model, digits_calibration: Rows, digits_test: Rows, tmp_path: Path
) -> None:
    inputs, _ = next(digits_test.batches(50))
    before = digits_program.program(inputs)["logits"]

    mild, harsh = (
        analyzed(digits_program, digits_calibration, tmp_path, what=what, ratio=ratio, samples=100)
        for ratio in (0.1, 0.8)
    )

    assert np.array_equal(digits_program.program(inputs)["logits"], before)
    assert mild.model is harsh.model is digits_program
    assert len(mild.tables[0].rows) == layers
    for one, other in zip(mild.charts[0].series[0].values, harsh.charts[0].series[0].values, strict=True):
        assert one > other + 3
    lost = [row[-1] for row in harsh.tables[0].rows]
    assert max(lost) > 5


def test_zeroing_a_layer_does_what_pruning_it_would(
    digits_program: Model, digits_calibration: Rows, tmp_path: Path
) -> None:
    """The figure for one layer against `prune.weights` of that layer alone."""
    from app.spec.prune import PruneWeights

    rows = digits_calibration.sample(100, 0)
    result = analyzed(digits_program, digits_calibration, tmp_path, what="prune.weights", samples=100)
    layer, _, _, found, *_ = result.tables[0].rows[2]
    step = PruneWeights(sparsity=0.5, include=(layer,), scope="local")
    pruned = apply_step(step, digits_program, context(tmp_path)).model.program
    inputs, _ = next(rows.batches(100))

    assert sqnr_db(digits_program.program(inputs)["logits"], pruned(inputs)["logits"]) == pytest.approx(found, abs=0.05)


def test_an_onnx_file_is_pruned_as_the_program_that_it_becomes(
    digits_folder: Path, digits_calibration: Rows, tmp_path: Path
) -> None:
    step = AnalyzeSensitivity(what="prune.channels")
    assert step.requires().trainable_graph
    assert not AnalyzeSensitivity().requires().trainable_graph
    result = changed(step, digits_folder / "digits.onnx", tmp_path, digits_calibration)

    assert len(result.tables[0].rows) == 4


def test_rows_without_labels(transformer: Path, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 200, (32, 16))
    result = changed(AnalyzeSensitivity(bits=(8,)), transformer, tmp_path, rows_of(tmp_path, tokens=tokens))

    assert result.tables[0].columns == ("Layer", "Operator", "Weights", "8 bits, dB")
    assert len(result.tables[0].rows) == 9
    assert outputs_of(transformer, {"tokens": tokens})[0].shape == (32, 4)
