"""skip 'auto' quantizes as much as its budget allows, and says how well that was predicted."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.spec.quantize import Budget, QuantizeStatic
from tests.support.engine.orders import changed, context, executed, lowered, model_of, outputs_of, rows_of, sqnr_db
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.passes.table import apply_step
from worker.engine.quantization.sensitivity.search import BudgetTooTight


@pytest.fixture(scope="module")
def budgeted(digits_folder: Path, digits_calibration: Rows, tmp_path_factory: pytest.TempPathFactory):
    """Digits quantized within a budget, at most once for each."""
    made: dict[QuantizeStatic, tuple[Changed, Path]] = {}

    def quantize(**budget) -> tuple[Changed, Path]:
        narrowest = budget.pop("narrowest", "int8")
        step = QuantizeStatic(skip="auto", budget=Budget(**budget), narrowest=narrowest)
        if step not in made:
            folder = tmp_path_factory.mktemp("budgeted")
            quantized = changed(step, digits_folder / "digits.onnx", folder, digits_calibration)
            made[step] = quantized, lowered(quantized.model, "x86", folder)
        return made[step]

    return quantize


def noise_db(file: Path, digits_folder: Path, rows: Rows) -> float:
    inputs, _ = next(rows.batches(1000))
    return sqnr_db(outputs_of(digits_folder / "digits.onnx", inputs)[0], outputs_of(file, inputs)[0])


@pytest.mark.parametrize("budget_db", [30, 44, 49])
def test_the_outputs_keep_a_budget_of_noise(budget_db, budgeted, digits_folder: Path, digits_test: Rows) -> None:
    quantized, file = budgeted(sqnr_db=budget_db)

    assert quantized.facts["measured_sqnr_db"] >= budget_db
    assert quantized.facts["predicted_sqnr_db"] == pytest.approx(quantized.facts["measured_sqnr_db"], abs=1)
    assert noise_db(file, digits_folder, digits_test) > budget_db - 1


def test_no_more_stays_in_floating_point_than_the_budget_wants(budgeted, tmp_path: Path) -> None:
    left = {budget: budgeted(sqnr_db=budget)[0].facts["layers_float"] for budget in (30, 44, 49)}
    assert left[30] == 0
    assert 1 <= left[44] < left[49] <= 4
    operators = executed(budgeted(sqnr_db=44)[1], tmp_path)
    assert operators["QLinearConv"] + operators["QGemm"] == 5 - left[44]
    assert operators["Conv"] + operators["FusedConv"] + operators["Gemm"] + operators["FusedGemm"] == left[44]


def test_layers_that_bear_it_get_four_bits(budgeted, digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    quantized, file = budgeted(sqnr_db=28, narrowest="int4")

    assert 4 < quantized.facts["weight_bits"] < 8
    assert 1 <= quantized.facts["layers_int4"] <= 4
    assert quantized.facts["layers_float"] == 0
    assert noise_db(file, digits_folder, digits_test) > 27
    assert executed(file, tmp_path)["QLinearConv"] == 3
    assert file.stat().st_size < 0.9 * budgeted(sqnr_db=30)[1].stat().st_size


def test_a_budget_in_points_of_top1(budgeted, digits_folder: Path, digits_test: Rows) -> None:
    quantized, file = budgeted(top1_points=0.5, narrowest="int4")

    assert quantized.facts["measured_top1_points_lost"] <= 0.5
    assert quantized.facts["layers_int4"] >= 1
    inputs, labels = next(digits_test.batches(1000))
    before, after = (
        (outputs_of(path, inputs)[0].argmax(1) == labels).mean() for path in (digits_folder / "digits.onnx", file)
    )
    assert before - after <= 0.015


def test_the_report_shows_every_layer_and_both_figures(budgeted) -> None:
    quantized, _ = budgeted(sqnr_db=44)
    prediction, layers = quantized.tables
    assert [row[0] for row in prediction.rows] == ["every layer quantized", "as chosen"]
    assert len(layers.rows) == len(quantized.charts[0].x) == 5
    assert [row[-1] for row in layers.rows].count("float") == quantized.facts["layers_float"]
    worst = min(layers.rows, key=lambda row: row[3])
    assert worst[-1] == "float", "the layer with the least signal to noise is the first to stay"


def test_a_budget_that_no_layer_keeps(digits_folder: Path, digits_calibration: Rows, tmp_path: Path) -> None:
    step = QuantizeStatic(skip="auto", budget=Budget(sqnr_db=110))
    with pytest.raises(BudgetTooTight, match=r"together give 4\d\.\d dB"):
        changed(step, digits_folder / "digits.onnx", tmp_path, digits_calibration)


def test_points_without_class_labels(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    inputs, _ = next(digits_test.batches(40))
    step = QuantizeStatic(skip="auto", budget=Budget(top1_points=1))
    with pytest.raises(BudgetTooTight, match="Top-1 cannot be measured"):
        changed(step, digits_folder / "digits.onnx", tmp_path, rows_of(tmp_path, **inputs))


def test_validation_rows_are_measured_on_where_there_are_any(
    digits_folder: Path, digits_calibration: Rows, digits_test: Rows, tmp_path: Path
) -> None:
    work = context(tmp_path, digits_calibration)
    work = replace(work, data={**work.data, "validation": digits_test})
    step = QuantizeStatic(skip="auto", budget=Budget(sqnr_db=30))

    quantized = apply_step(step, model_of(digits_folder / "digits.onnx", tmp_path), work)

    assert quantized.tables[0].title.endswith("validation rows")


@pytest.mark.parametrize(
    "step",
    [
        {"skip": "auto"},
        {"budget": {"sqnr_db": 30}},
        {"skip": {"operators": ["Gemm"]}, "budget": {"sqnr_db": 30}},
        {"skip": "auto", "budget": {}},
        {"skip": "auto", "budget": {"sqnr_db": 30, "top1_points": 1}},
        {"narrowest": "int4"},
    ],
)
def test_what_does_not_go_together_is_refused(step: dict) -> None:
    with pytest.raises(ValidationError):
        QuantizeStatic.model_validate(step)


def test_points_need_labels() -> None:
    assert QuantizeStatic(skip="auto", budget=Budget(top1_points=1)).requires().labels
    assert not QuantizeStatic(skip="auto", budget=Budget(sqnr_db=30)).requires().labels
