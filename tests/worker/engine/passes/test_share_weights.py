"""Shared weights: few values, a file as small as their numbers, and outputs that stay near."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from app.spec.quantize import Skip
from app.spec.share import ShareWeights
from app.spec.training import Training
from examples import digits
from tests.support.engine.orders import changed, executed, lowered, outputs_of, sqnr_db
from tests.support.engine.trainings import digits_model, digits_rows, training_context
from worker.engine.data.rows import Rows
from worker.engine.passes.table import apply_step
from worker.engine.quantization.weights.shared_file import read_shared

TOKENS = np.random.default_rng(0).integers(0, 200, (32, 16))


def test_digits_in_sixteen_values_keep_their_accuracy(digits_folder: Path, digits_test: Rows, tmp_path: Path) -> None:
    images, labels = next(digits_test.batches(len(digits_test)))
    graph = digits_folder / "digits.onnx"
    file = lowered(changed(ShareWeights(clusters=16), graph, tmp_path).model, "x86", tmp_path)

    top1 = [(outputs_of(path, images)[0].argmax(1) == labels).mean() for path in (graph, file)]
    assert 100 * (top1[0] - top1[1]) <= 0.3
    assert file.stat().st_size < 0.16 * graph.stat().st_size


def test_the_runtime_computes_with_the_values_of_the_file(resnet18: Path, photos: np.ndarray, tmp_path: Path) -> None:
    change = changed(ShareWeights(clusters=16), resnet18, tmp_path)
    file = lowered(change.model, "x86", tmp_path)
    restored = read_shared(change.files["weights.shared.safetensors"])
    float_model = onnx.load(change.model.plan.graph)
    for tensor in float_model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(restored[tensor.name], tensor.name))
    onnx.save(float_model, tmp_path / "restored.onnx")

    expected, actual = (outputs_of(path, {"image": photos})[0] for path in (tmp_path / "restored.onnx", file))
    np.testing.assert_array_equal(actual, expected)
    assert file.stat().st_size < 0.13 * resnet18.stat().st_size
    assert change.files["weights.shared.safetensors"].stat().st_size < 0.13 * resnet18.stat().st_size
    assert not {"BitShift", "Gather", "Cast"} & executed(file, tmp_path).keys(), "looked up when it is loaded"


@pytest.mark.parametrize("step", [ShareWeights(clusters=60), ShareWeights(clusters=16, group=16)])
def test_a_transformer_follows_the_original(step: ShareWeights, transformer: Path, tmp_path: Path) -> None:
    change = changed(step, transformer, tmp_path)
    file = lowered(change.model, "x86", tmp_path)
    before, after = (outputs_of(path, {"tokens": TOKENS})[0] for path in (transformer, file))

    assert sqnr_db(before, after) > (23 if step.clusters == 60 else 15)
    assert file.stat().st_size < 0.33 * transformer.stat().st_size
    assert change.facts["tables"] == (change.facts["weights"] if step.group is None else pytest.approx(100, abs=60))


def test_tables_of_their_own_fit_groups_better(transformer: Path, tmp_path: Path) -> None:
    sqnr = {
        group: changed(ShareWeights(clusters=16, group=group), transformer, tmp_path).facts["weights_sqnr_db"]
        for group in (None, 16, 4)
    }
    assert sqnr[4] > sqnr[16] > sqnr[None]


def test_every_profile_gets_the_same_values(transformer: Path, tmp_path: Path) -> None:
    model = changed(ShareWeights(clusters=16), transformer, tmp_path).model
    outputs = [
        outputs_of(lowered(model, profile, tmp_path), {"tokens": TOKENS})[0]
        for profile in ("x86", "x86-legacy", "arm", "tensorrt")
    ]
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=1e-6)


def test_the_report_tells_what_each_weight_lost(transformer: Path, tmp_path: Path) -> None:
    change = changed(ShareWeights(clusters=16, skip=Skip(operators=("Gather",))), transformer, tmp_path)
    (table,), (chart,) = change.tables, change.charts
    assert len(table.rows) == len(chart.x) == change.facts["weights"]
    assert all(row[1] != "Gather" and row[3] == "1 x 16 values, 4 bits" for row in table.rows)
    assert all(row[5] == row[4] / 8 + 64 for row in table.rows)


def test_trained_values_make_up_for_few_clusters(tmp_path: Path) -> None:
    """Four values a tensor are trained, and stay four."""
    network = digits.train_digits_cnn(seed=0)
    model = digits_model(network, tmp_path)
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 1000))})
    images, labels = next(digits_rows(tmp_path, slice(1000, None)).batches(797))

    loss, plans = {}, {}
    for name, tune in (("clustered", None), ("trained", Training(epochs=3, learning_rate=1e-3))):
        plans[name] = apply_step(ShareWeights(clusters=4, tune=tune), model, context)
        logits = torch.from_numpy(outputs_of(lowered(plans[name].model, "x86", tmp_path), images)[0])
        loss[name] = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
    assert loss["trained"] < 0.8 * loss["clustered"]
    assert all(row[6] is None or row[6] > 80 for row in plans["trained"].tables[0].rows), "found again, not changed"
    restored = read_shared(plans["trained"].files["weights.shared.safetensors"])
    assert all(len(np.unique(restored[name])) <= 4 for name in plans["trained"].model.plan.weights)


def test_training_the_values_needs_rows_labels_and_a_program() -> None:
    needs = ShareWeights(tune=Training()).requires()
    assert (needs.train, needs.labels, needs.trainable_graph) == (True, True, True)
    assert not ShareWeights().requires().train
