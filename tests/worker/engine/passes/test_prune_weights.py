"""prune.weights: the least important weights become zero, and stay it through training."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from app.spec.finetune import FineTune
from app.spec.prune import PruneWeights
from app.spec.signature import Signature, TensorSpec
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import model_of, outputs_of
from tests.support.engine.trainings import BATCH, SIGNATURE, digits_model, digits_rows, top1, training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.pruning.channels.errors import UnknownLayer
from worker.engine.pruning.errors import NoWeightsToPrune
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program


@pytest.fixture
def trained(digits_folder: Path, tmp_path: Path) -> Model:
    """The digits network."""
    program = load_program(digits_folder / "digits.pt2", SIGNATURE, tmp_path)
    return Model(program, SIGNATURE, new_folder(tmp_path / "scratch"))


@pytest.fixture
def test_rows(tmp_path: Path) -> Rows:
    return digits_rows(tmp_path, slice(1000, None))


def pruned(model: Model, folder: Path, *, calibration: Rows | None = None, **step: object) -> Changed:
    data = {} if calibration is None else {"calibration": calibration}
    return apply_step(PruneWeights.model_validate(step), model, training_context(folder, data))


def weight(model: Model, name: str) -> torch.Tensor:
    return model.program.exported.state_dict[name].detach()


def test_nine_of_ten_weights_go_and_training_wins_back_the_accuracy(
    trained: Model, test_rows: Rows, tmp_path: Path
) -> None:
    changed = pruned(trained, tmp_path, sparsity=0.9)
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 1000))})
    recovered = apply_step(FineTune(epochs=6, learning_rate=0.003), changed.model, context)

    before, damaged, after = (top1(model, test_rows) for model in (trained, changed.model, recovered.model))
    assert damaged < before - 0.02
    assert after >= before - 0.01
    assert changed.facts["sparsity"] == pytest.approx(0.9, abs=1e-4)
    assert recovered.model.sparse == {f"{layer}.weight" for layer in (0, 3, 7, 12, 14)}
    for name in recovered.model.sparse:
        assert torch.equal(weight(recovered.model, name) == 0, weight(changed.model, name) == 0)
    assert changed.facts["compressed_bytes_after"] < 0.25 * changed.facts["compressed_bytes_before"]


def test_the_report_shows_each_layer_and_promises_no_speed(trained: Model, tmp_path: Path) -> None:
    changed = pruned(trained, tmp_path, sparsity=0.9)

    chart, table = changed.charts[0], changed.tables[0]
    assert chart.x == ("0", "3", "7", "12", "14")
    assert [row[0] for row in table.rows] == list(chart.x)
    for name, share in zip(chart.x, chart.series[0].values, strict=True):
        assert share == pytest.approx(float((weight(changed.model, f"{name}.weight") == 0).float().mean()))
    assert len({round(share, 2) for share in chart.series[0].values}) > 1, "global ranking treats layers alike"
    assert "no speed" in changed.notes[0]


def test_the_smallest_weights_of_all_layers_go(trained: Model, tmp_path: Path) -> None:
    changed = pruned(trained, tmp_path, sparsity=0.3)

    gone, left = [], []
    for name in changed.model.sparse:
        before, zero = weight(trained, name), weight(changed.model, name) == 0
        gone.append(before[zero].abs())
        left.append(before[~zero].abs())
        assert torch.equal(weight(changed.model, name)[~zero], before[~zero])
    assert torch.cat(gone).max() < torch.cat(left).min()


def test_every_layer_loses_the_same_share_if_ranked_alone(trained: Model, tmp_path: Path) -> None:
    changed = pruned(trained, tmp_path, sparsity=0.4, scope="local")

    for row in changed.tables[0].rows:
        assert row[3] == pytest.approx(0.4, abs=0.01)


def test_relative_sizes_spare_layers_of_small_weights(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    with torch.no_grad():
        network[1].weight.mul_(0.01)
    model = digits_model(network, tmp_path)

    absolute = pruned(model, tmp_path, sparsity=0.5, criterion="l1")
    relative = pruned(model, tmp_path, sparsity=0.5, criterion="l2")

    assert absolute.tables[0].rows[1][3] < 0.05
    assert relative.tables[0].rows[1][3] == pytest.approx(0.5, abs=0.15)


def test_both_sizes_rank_alike_within_a_layer(trained: Model, tmp_path: Path) -> None:
    absolute, relative = (
        pruned(trained, tmp_path, sparsity=0.6, scope="local", criterion=criterion).model for criterion in ("l1", "l2")
    )
    for name in absolute.sparse:
        assert torch.equal(weight(absolute, name), weight(relative, name))


@pytest.mark.parametrize("scope", ["global", "local"])
def test_less_than_one_weight_is_refused(trained: Model, tmp_path: Path, scope: str) -> None:
    with pytest.raises(
        NoWeightsToPrune, match=r"A share of 1e-07 of the \d+ weights of .* is less than one"
    ) as refused:
        pruned(trained, tmp_path, sparsity=1e-7, scope=scope)
    assert "Raise the sparsity" in refused.value.remedy


@pytest.mark.parametrize("scope", ["global", "local"])
def test_weights_that_are_alike_do_not_all_go(tmp_path: Path, scope: str) -> None:
    """A threshold would take every one of them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    for layer in (network[1], network[3]):
        nn.init.constant_(layer.weight, 0.5)
    changed = pruned(digits_model(network, tmp_path), tmp_path, sparsity=0.25, scope=scope)

    assert changed.facts["zeros"] == int(0.25 * 64 * 32) + int(0.25 * 32 * 10)


def test_zeros_that_were_there_are_told(trained: Model, tmp_path: Path) -> None:
    once = pruned(trained, tmp_path, sparsity=0.5)
    again = pruned(once.model, tmp_path, sparsity=0.4)

    assert not any("zero before" in note for note in once.notes)
    assert any("zero before" in note for note in again.notes)
    assert again.facts["zeros"] == again.facts["zeros_before"] == once.facts["zeros"]


def test_a_pattern_leaves_two_of_four_along_the_input(trained: Model, tmp_path: Path) -> None:
    changed = pruned(trained, tmp_path, pattern="2:4")

    assert changed.model.sparse == {f"{layer}.weight" for layer in (3, 7, 12, 14)}, "layer 0 has one input channel"
    assert "1 layer stayed whole" in changed.notes[-1]
    for name in changed.model.sparse:
        before, after = weight(trained, name), weight(changed.model, name)
        blocks = after.movedim(1, -1).reshape(-1, 4)
        assert ((blocks != 0).sum(1) == 2).all()
        sizes = before.movedim(1, -1).reshape(-1, 4).abs()
        torch.testing.assert_close(blocks.abs().sum(1), sizes.topk(2).values.sum(1))


def test_wanda_keeps_weights_of_loud_inputs(tmp_path: Path) -> None:
    """The definition of the paper: |weight| times the norm of its input, compared within each output."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(96, 10)
    )
    model = digits_model(network.eval(), tmp_path)
    calibration = digits_rows(tmp_path, slice(0, 50))

    changed = pruned(model, tmp_path, calibration=calibration, criterion="wanda", sparsity=0.5)

    images = torch.from_numpy(next(calibration.batches(50))[0]["image"])
    with torch.no_grad():
        hidden = network[1](network[0](images))
        norms = hidden.square().sum((0, 2, 3)).sqrt()
        flat = network[3](network[2](hidden)).square().sum(0).sqrt()
    of_outputs = torch.stack([norms[:2]] * 3 + [norms[2:]] * 3)[:, :, None, None]
    for name, score in (
        ("2.weight", network[2].weight.abs() * of_outputs),
        ("4.weight", network[4].weight.abs() * flat),
    ):
        rows = score.detach().flatten(1)
        least = rows.sort(dim=1).values[:, rows.shape[1] // 2 - 1 : rows.shape[1] // 2]
        assert torch.equal((weight(changed.model, name) != 0).flatten(1), rows > least)


def test_layers_are_chosen_by_patterns(trained: Model, tmp_path: Path) -> None:
    assert pruned(trained, tmp_path, include=["1*"], exclude=["14"]).model.sparse == {"12.weight"}
    with pytest.raises(UnknownLayer, match="No layer of the model is called 'head'; close to it are "):
        pruned(trained, tmp_path, exclude=["head"])


def test_weights_in_any_kind_of_product_are_found(tmp_path: Path) -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Parameter(torch.randn(5, 8))
            self.second = nn.Parameter(torch.randn(8, 3))

        def forward(self, table: torch.Tensor) -> torch.Tensor:
            return torch.addmm(torch.zeros(3), torch.relu(table @ self.first), self.second)

    signature = Signature(
        inputs=(TensorSpec(name="table", dtype="float32", shape=(BATCH, 5)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, 3)),),
    )
    program = Program(zoo.program(Products(), torch.zeros(2, 5)), signature)
    changed = pruned(Model(program, signature, new_folder(tmp_path)), tmp_path, pattern="4:8")

    assert changed.model.sparse == {"second"}, "first has 5 inputs"
    assert ((weight(changed.model, "second") != 0).sum(0) == 4).all()


def test_a_network_without_weights_is_an_error(tmp_path: Path) -> None:
    class Doubled(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 2 * image.flatten(1)[:, :10]

    with pytest.raises(NoWeightsToPrune):
        pruned(digits_model(Doubled().eval(), tmp_path), tmp_path)
    with pytest.raises(NoWeightsToPrune, match="7:11"):
        pruned(digits_model(digits.digits_cnn(0, 4).eval(), tmp_path), tmp_path, pattern="7:11")


@pytest.mark.parametrize(
    "step",
    [
        {"pattern": "2:4", "sparsity": 0.5},
        {"pattern": "4:4"},
        {"pattern": "0:4"},
        {"criterion": "wanda", "scope": "global"},
        {"sparsity": 1},
    ],
)
def test_contradictions_are_refused(step: dict) -> None:
    with pytest.raises(ValueError, match=r"pattern|wanda|sparsity"):
        PruneWeights.model_validate(step)


def test_only_wanda_needs_data() -> None:
    assert PruneWeights(criterion="wanda").requires().calibration
    assert not PruneWeights(criterion="l2").requires().calibration
    assert np.isclose(PruneWeights().share, 0.5)


def test_an_onnx_file_loses_the_same_weights(
    trained: Model, digits_folder: Path, test_rows: Rows, tmp_path: Path
) -> None:
    """Within an output, that is: its exporter has folded batch norms, which scale all weights of an output."""
    images = next(test_rows.batches(50))[0]["image"]
    before = outputs_of(digits_folder / "digits.onnx", {"image": images})[0]

    program = pruned(trained, tmp_path, pattern="2:4")
    file = pruned(model_of(digits_folder / "digits.onnx", tmp_path), tmp_path, pattern="2:4")

    expected = program.model.program({"image": images})["logits"]
    np.testing.assert_allclose(outputs_of(file.model.graph, {"image": images})[0], expected, atol=1e-4)
    assert file.facts["zeros"] == program.facts["zeros"]
    assert np.abs(expected - before).max() > 0.1
    np.testing.assert_array_equal(outputs_of(digits_folder / "digits.onnx", {"image": images})[0], before)


def test_the_smallest_weights_of_an_onnx_file_go(digits_folder: Path, tmp_path: Path) -> None:
    changed = pruned(model_of(digits_folder / "digits.onnx", tmp_path), tmp_path, sparsity=0.8)

    before, after = (
        {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
        for path in (digits_folder / "digits.onnx", changed.model.graph)
    )
    gone = np.concatenate([np.abs(before[name][after[name] == 0]) for name in changed.model.sparse])
    left = np.concatenate([np.abs(before[name][after[name] != 0]) for name in changed.model.sparse])
    assert len(changed.model.sparse) == 5
    assert gone.size / (gone.size + left.size) == pytest.approx(0.8, abs=1e-4)
    assert gone.max() < left.min()


def test_wanda_looks_into_the_program_of_an_onnx_file(digits_folder: Path, tmp_path: Path) -> None:
    calibration = digits_rows(tmp_path, slice(0, 10))
    model = model_of(digits_folder / "digits.onnx", tmp_path)
    changed = pruned(model, tmp_path, calibration=calibration, criterion="wanda")

    assert changed.facts["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert changed.model.sparse <= set(dict(changed.model.program.graph_module().named_parameters()))
