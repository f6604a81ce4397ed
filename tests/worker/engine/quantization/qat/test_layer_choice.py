"""quantize.aware with skip 'auto': the layer that few bits would ruin gets more, and training ends better for it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from pydantic import ValidationError

from app.spec.quantize import Budget
from app.spec.quantize_aware import QuantizeAware
from examples import digits
from tests.support.engine.orders import executed, lowered, outputs_of
from tests.support.engine.trainings import digits_model, digits_rows, training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.measure.placement import placement_of
from worker.engine.model import Model
from worker.engine.passes.table import apply_step
from worker.engine.quantization.sensitivity.search import BudgetTooTight

FRAGILE = 128 * 64 * 9
"""Weights of the layer that is made fragile."""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A trained network whose third convolution has a few inputs of large weights; what it computes is the same."""
    network = digits.train_digits_cnn(seed=0)
    with torch.no_grad():
        network[4].weight[::8] /= 16
        network[4].bias[::8] /= 16
        network[7].weight[:, ::8] *= 16
    return digits_model(network, tmp_path_factory.mktemp("fragile"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows]:
    """To train on, and to test on."""
    folder = tmp_path_factory.mktemp("rows")
    return digits_rows(folder, slice(0, 1000)), digits_rows(folder, slice(1000, None))


def trained(model: Model, rows: tuple[Rows, Rows], folder: Path, **step) -> tuple[Changed, Path, float]:
    """After one epoch: what the step tells, the file, and its share of right answers."""
    folder.mkdir()
    context = training_context(folder, {"train": rows[0]})
    changed = apply_step(QuantizeAware.model_validate({"epochs": 1, **step}), model, context)
    file = lowered(changed.model, "x86", folder)
    inputs, labels = next(rows[1].batches(len(rows[1])))
    return changed, file, float((outputs_of(file, inputs)[0].argmax(1) == labels).mean())


def codes_of(file: Path) -> dict[int, int]:
    """The largest weight code, by the number of weights, of those that are not packed."""
    stored = (numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer)
    return {one.size: int(np.abs(one.astype(int)).max()) for one in stored if one.dtype == np.int8 and one.any()}


def test_the_fragile_layer_gets_eight_bits(fragile: Model, rows, tmp_path: Path) -> None:
    """Of 4-bit weights and inputs: 97.4 % right without, 99.4 % with."""
    asked = {"weights": "int4", "activations": "int4"}
    _, _, plain = trained(fragile, rows, tmp_path / "plain", **asked)
    auto, file, right = trained(fragile, rows, tmp_path / "auto", **asked, skip="auto", budget={"sqnr_db": 12})

    prediction, layers, learned = auto.tables[:3]
    chosen = {row[2]: row[-1] for row in layers.rows}
    assert chosen[FRAGILE] == "int8"
    assert list(chosen.values()).count("int4") == 2, "the first and the last layer have 8 bits anyway"
    assert [row[2] for row in learned.rows].count("-8 ... 7") == 2
    assert codes_of(file)[FRAGILE] > 100
    assert right > plain + 0.01
    assert auto.facts["kernel_agreement"] == 1.0

    whole, as_chosen, as_trained = prediction.rows
    assert whole[2] < 12 <= as_chosen[2]
    assert as_chosen[1] == pytest.approx(as_chosen[2], abs=2)
    assert as_trained[3] == auto.facts["trained_top1_points_lost"] <= 0.5


def test_a_budget_of_answers_before_training(fragile: Model, rows, tmp_path: Path) -> None:
    """Of 2-bit weights: 69 % right without, 99.2 % with, where two layers of five keep the two bits."""
    _, _, plain = trained(fragile, rows, tmp_path / "plain", weights="int2")
    auto, _, right = trained(fragile, rows, tmp_path / "auto", weights="int2", skip="auto", budget={"top1_points": 1})

    assert auto.facts["layers_int2"] >= 2
    assert auto.facts["measured_top1_points_lost"] <= 1
    assert right > plain + 0.1


def test_what_eight_bits_cost_too_much_stays_in_floating_point(fragile: Model, rows, tmp_path: Path) -> None:
    auto, file, right = trained(fragile, rows, tmp_path / "auto", skip="auto", budget={"sqnr_db": 36})

    assert auto.facts["measured_sqnr_db"] >= 36
    assert 1 <= auto.facts["layers_float"] <= 3
    assert {row[2]: row[-1] for row in auto.tables[1].rows}[FRAGILE] == "float"
    assert len(codes_of(file)) == 5 - auto.facts["layers_float"]
    assert FRAGILE not in codes_of(file)
    placement = placement_of(executed(file, tmp_path))
    assert (placement.integer, placement.floating) == (5 - auto.facts["layers_float"], auto.facts["layers_float"])
    assert right > 0.985
    assert auto.facts["kernel_agreement"] >= 0.99


def test_a_budget_that_no_layer_keeps(fragile: Model, rows, tmp_path: Path) -> None:
    with pytest.raises(BudgetTooTight):
        trained(fragile, rows, tmp_path / "tight", skip="auto", budget={"sqnr_db": 110})


def test_what_it_needs_is_known_when_it_is_submitted() -> None:
    unlabelled = {"distill": "dist", "alpha": 1}
    assert not QuantizeAware(**unlabelled, skip="auto", budget=Budget(sqnr_db=20)).requires().labels
    assert QuantizeAware(**unlabelled, skip="auto", budget=Budget(top1_points=1)).requires().labels
    for step in ({"skip": "auto"}, {"budget": {"sqnr_db": 20}}):
        with pytest.raises(ValidationError, match="go together"):
            QuantizeAware.model_validate(step)
