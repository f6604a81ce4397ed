"""quantize.weights with skip 'auto': weights that bear few bits get them, the others 8 or all."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from pydantic import ValidationError

from app.spec.quantize import Budget, QuantizeWeights
from tests.support.engine import zoo
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.quantization.sensitivity.search import BudgetTooTight

FRAGILE = 2
UNSEEN = np.random.default_rng(9).standard_normal((256, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five matrix products; an outlier in each block of one leaves few codes to its other weights."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 64) for _ in range(5)]
    with torch.no_grad():
        layers[FRAGILE].weight[:, ::16] *= 12
    network = torch.nn.Sequential(*[one for layer in layers for one in (layer, torch.nn.ReLU())])
    return zoo.export(network, tmp_path_factory.mktemp("chain") / "chain.onnx", {"x": torch.zeros(2, 64)}, ["y"])


def quantized(graph: Path, folder: Path, **step) -> tuple[Changed, Path, float]:
    """What the step made of the chain, its file, and its signal to noise on rows it has not seen."""
    folder.mkdir()
    rows = rows_of(folder, x=np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32))
    change = changed(QuantizeWeights.model_validate(step), graph, folder, rows)
    file = lowered(change.model, "x86", folder)
    before, after = (outputs_of(path, {"x": UNSEEN})[0] for path in (graph, file))
    return change, file, sqnr_db(before, after)


def fragile_weight(graph: Path) -> str:
    """The name of the weight with the outliers."""
    tensors = {one.name: numpy_helper.to_array(one) for one in onnx.load(graph).graph.initializer}
    return max(tensors, key=lambda name: np.abs(tensors[name]).max())


@pytest.mark.parametrize("method", ["rtn", "gptq"])
def test_the_fragile_weight_is_the_one_that_is_spared(method: str, chain: Path, tmp_path: Path) -> None:
    plain, small, plain_db = quantized(chain, tmp_path / "plain", weights="int4", method=method)
    budget = {"sqnr_db": round(plain_db) + 4}
    auto, file, auto_db = quantized(chain, tmp_path / "auto", weights="int4", method=method, skip="auto", budget=budget)

    bits = {name: weight.bits for name, weight in auto.model.plan.weights.items()}
    fragile = fragile_weight(plain.model.prepared)
    assert bits.get(fragile, 32) >= 8
    assert sorted(bits.values()).count(4) >= 3
    assert auto.facts["measured_sqnr_db"] >= budget["sqnr_db"]
    assert auto_db > plain_db + 3, "measured on other rows, from the delivered file"
    assert file.stat().st_size < 1.35 * small.stat().st_size


def test_what_was_predicted_is_told_beside_what_was_measured(chain: Path, tmp_path: Path) -> None:
    change, _, _ = quantized(chain, tmp_path / "auto", weights="int4", skip="auto", budget={"sqnr_db": 24})

    prediction, layers, stored = change.tables
    assert change.facts["predicted_sqnr_db"] == pytest.approx(change.facts["measured_sqnr_db"], abs=1.5)
    assert [row[0] for row in prediction.rows] == ["every layer quantized", "as chosen"]
    assert prediction.rows[1][2] == pytest.approx(change.facts["measured_sqnr_db"], abs=0.01)
    assert len(layers.rows) == 5
    chosen = {row[0]: row[-1] for row in layers.rows}
    forms = {row[0]: f"int{row[3].split()[0]}" for row in stored.rows}
    assert forms == {name: form for name, form in chosen.items() if form != "float"}
    assert change.files["sensitivity.json"].exists()


def test_a_higher_budget_takes_more_bits(chain: Path, tmp_path: Path) -> None:
    bits = [
        quantized(chain, tmp_path / str(db), weights="int2", skip="auto", budget={"sqnr_db": db})[0].facts[
            "weight_bits"
        ]
        for db in (6, 14, 30)
    ]
    assert all(fewer < more for fewer, more in pairwise(bits))
    assert bits[0] < 6
    assert bits[-1] <= 9


def test_a_budget_in_points_of_top1(digits_folder: Path, digits_calibration: Rows, digits_test: Rows, tmp_path: Path):
    """Two bits and one scale for an output cost digits many points; with the budget hardly any, at less than 6 bits."""
    images, labels = next(digits_test.batches(1000))
    graph = digits_folder / "digits.onnx"

    def right(step: QuantizeWeights) -> tuple[float, Changed]:
        change = changed(step, graph, tmp_path, digits_calibration)
        answers = outputs_of(lowered(change.model, "x86", tmp_path), images)[0].argmax(1)
        return float((answers == labels).mean()), change

    exact = float((outputs_of(graph, images)[0].argmax(1) == labels).mean())
    coarse = {"weights": "int2", "block": 65_536, "symmetric": True}
    plain, _ = right(QuantizeWeights(**coarse))
    auto, change = right(QuantizeWeights(**coarse, skip="auto", budget=Budget(top1_points=0.5)))

    assert plain < exact - 0.02
    assert auto > exact - 0.012
    assert change.facts["weight_bits"] < 6
    assert change.facts["measured_top1_points_lost"] <= 0.5


def test_a_budget_that_no_weight_keeps(chain: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetTooTight):
        quantized(chain, tmp_path / "tight", weights="int2", skip="auto", budget={"sqnr_db": 120})


def test_what_it_needs_is_known_when_it_is_submitted() -> None:
    assert not QuantizeWeights().requires().calibration
    auto = QuantizeWeights(skip="auto", budget=Budget(sqnr_db=20))
    assert auto.requires().calibration
    assert not auto.requires().labels
    assert QuantizeWeights(skip="auto", budget=Budget(top1_points=1)).requires().labels
    for step in ({"skip": "auto"}, {"budget": {"sqnr_db": 20}}):
        with pytest.raises(ValidationError, match="go together"):
            QuantizeWeights.model_validate(step)


def test_wider_weights_have_the_blocks_of_their_width() -> None:
    step = QuantizeWeights(weights="int4", block=16)
    assert step.widths == (4, 8)
    assert (step.at(4).block, step.at(8).block) == (16, None)
    assert QuantizeWeights(weights="int2").widths == (2, 4, 8)
    assert QuantizeWeights().widths == (8,)
