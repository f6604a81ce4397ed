"""prune.channels as a job takes it: what is left, what it costs, what is said about it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from app.spec.finetune import FineTune
from app.spec.prune import PruneChannels, PruneWeights
from tests.support.engine import blocks
from tests.support.engine.pruned_networks import as_program, parameters, pruned
from tests.support.engine.trainings import SIGNATURE, digits_rows, top1, training_context
from worker.engine.context import Changed
from worker.engine.model import Model, new_folder
from worker.engine.passes.table import apply_step
from worker.engine.pruning.channels.analysis import analyse
from worker.engine.pruning.channels.errors import NotExact, NothingToPrune, TargetUnreachable, UnknownLayer
from worker.engine.pruning.channels.exactness import require_exact
from worker.engine.pruning.channels.removal import removed
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program
from worker.engine.training.losses import TrainingLabelsOutOfRange

IMAGE = {"image": torch.zeros(2, 1, 8, 8)}


@pytest.fixture(scope="module")
def cnn() -> Program:
    """The network of the digits example with random weights: 32, 64 and 128 channels, 128 hidden units."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128 * 2 * 2, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    for norm in (network[1], network[4], network[8]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return as_program(network, IMAGE)


def test_half_of_the_channels_are_gone_and_what_is_left_is_told(cnn: Program, tmp_path: Path) -> None:
    changed = pruned(cnn, tmp_path)

    left = changed.model.program
    shapes = {name: tuple(tensor.shape) for name, tensor in left.exported.state_dict.items()}
    assert shapes["0.weight"] == (16, 1, 3, 3)
    assert shapes["3.weight"] == (32, 16, 3, 3)
    assert shapes["8.running_var"] == (64,)
    assert shapes["12.weight"] == (64, 256)
    assert shapes["14.weight"] == (10, 64)
    assert changed.facts["parameters_after"] == parameters(left) < 0.3 * parameters(cnn)
    assert changed.facts["macs_after"] < 0.3 * changed.facts["macs_before"]
    assert changed.facts["difference_from_masked"] < 1e-5
    assert left({"image": np.zeros((7, 1, 8, 8), np.float32)})["logits"].shape == (7, 10)

    before, after = changed.charts[0].series
    assert dict(zip(changed.charts[0].x, after.values, strict=True)) == {"0": 16, "3": 32, "7": 64, "12": 64}
    assert before.values == (32, 64, 128, 128)


def test_the_kept_positions_reproduce_the_weights(cnn: Program, tmp_path: Path) -> None:
    changed = pruned(cnn, tmp_path)

    kept = json.loads(changed.files["kept-channels.json"].read_text())
    before, after = cnn.exported.state_dict, changed.model.program.exported.state_dict
    for name, tensor in after.items():
        expected = before[name]
        for axis, positions in kept.get(name, {}).items():
            expected = expected.index_select(int(axis), torch.tensor(positions))
        assert torch.equal(tensor, expected), name
    assert set(kept["12.weight"]) == {"0", "1"}
    assert "14.bias" not in kept


def test_the_largest_norms_are_kept(cnn: Program, tmp_path: Path) -> None:
    """Of the last hidden layer, whose importance is that of two matrices."""
    changed = pruned(cnn, tmp_path, include=["12"], criterion="l1")

    kept = json.loads(changed.files["kept-channels.json"].read_text())["12.weight"]["0"]
    rows = cnn.exported.state_dict["12.weight"].abs().sum(1)
    columns = cnn.exported.state_dict["14.weight"].abs().sum(0)
    score = rows / rows.mean() + columns / columns.mean()
    assert kept == sorted(score.argsort(descending=True)[:64].tolist())
    assert "7.weight" not in json.loads(changed.files["kept-channels.json"].read_text())


@pytest.mark.parametrize("target", ["target_macs", "target_parameters"])
def test_a_target_is_met_closely(cnn: Program, tmp_path: Path, target: str) -> None:
    changed = pruned(cnn, tmp_path, round_to=1, **{target: 0.4})

    name = target.removeprefix("target_")
    assert 0.38 < changed.facts[f"{name}_after"] / changed.facts[f"{name}_before"] <= 0.4
    assert changed.facts["parameters_after"] == parameters(changed.model.program)


def test_what_cannot_be_done_says_what_can(cnn: Program, tmp_path: Path) -> None:
    with pytest.raises(TargetUnreachable, match=r"removed .* are left; the target is 0.1%"):
        pruned(cnn, tmp_path, target_parameters=0.001)
    with pytest.raises(TargetUnreachable, match=r"the target is 0\.00012%"):
        pruned(cnn, tmp_path, target_macs=1.2e-6)
    with pytest.raises(UnknownLayer, match="'layer4"):
        pruned(cnn, tmp_path, exclude=["layer4.*"])
    with pytest.raises(NothingToPrune, match="leave none of the 4 groups"):
        pruned(cnn, tmp_path, exclude=["*"])
    with pytest.raises(NothingToPrune, match="blocks of 256"):
        pruned(cnn, tmp_path, round_to=256)
    with pytest.raises(NothingToPrune, match="no layer comes before another"):
        pruned(as_program(nn.Linear(8, 4), {"x": torch.zeros(2, 8)}), tmp_path)


def kept(changed: Changed, name: str = "7.weight") -> list[int]:
    """The output channels of a layer that are left."""
    return json.loads(changed.files["kept-channels.json"].read_text())[name]["0"]


def test_ratios_by_layer_and_what_every_layer_keeps(cnn: Program, tmp_path: Path) -> None:
    changed = pruned(cnn, tmp_path, ratios={"7": 0.75, "[03]": 0.25}, round_to=8, exclude=["3"])
    assert changed.charts[0].series[1].values == (24, 32, 128)
    assert changed.charts[0].x == ("0", "7", "12")

    changed = pruned(cnn, tmp_path, ratio=0.9, round_to=1, min_channels=20)
    assert changed.charts[0].series[1].values == (20, 20, 20, 20)


def test_a_global_ranking_takes_more_from_layers_with_weak_channels(cnn: Program, tmp_path: Path) -> None:
    weak = cnn.graph_module()
    with torch.no_grad():
        for name in ("7", "8"):
            weak.get_submodule(name).weight[32:] *= 0.01
        weak.get_submodule("12").weight[:, 128:] *= 0.01
    left = pruned(cnn.rebuilt(weak), tmp_path, scope="global", ratio=0.3, round_to=1).charts[0].series[1].values

    assert left[2] <= 34
    assert sum(left) == pytest.approx(0.7 * 352, abs=1)
    assert min(left[0] / 32, left[1] / 64, left[3] / 128) > 0.85


def test_the_scale_of_the_batch_norm_decides(cnn: Program, tmp_path: Path) -> None:
    changed = pruned(cnn, tmp_path, criterion="bn_scale")

    scale = cnn.exported.state_dict["8.weight"].abs()
    assert kept(changed) == sorted(scale.argsort(descending=True)[:64].tolist())
    assert changed.notes == ("1 groups pass no batch norm; their channels were ranked by their L2 norm.",)
    with pytest.raises(NothingToPrune, match="No batch norm"):
        pruned(as_program(blocks.Tied(), {"x": torch.zeros(2, 6, dtype=torch.int64)}), tmp_path, criterion="bn_scale")


def test_random_channels_follow_the_seed(cnn: Program, tmp_path: Path) -> None:
    first, again, other = (
        kept(pruned(cnn, tmp_path, training_context(tmp_path, {}, seed=seed), criterion="random")) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.fixture(scope="module")
def trained(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("trained")
    program = load_program(digits_folder / "digits.pt2", SIGNATURE, folder)
    return Model(program, SIGNATURE, new_folder(folder))


@pytest.mark.parametrize("role", ["train", "calibration"])
def test_the_effect_on_the_loss_finds_channels_that_norms_do_not(trained: Model, tmp_path: Path, role: str) -> None:
    """Channels that are large and of no use: what reads them has been set to zero."""
    module = trained.program.graph_module()
    with torch.no_grad():
        module.get_submodule("12").weight[:64] *= 50
        module.get_submodule("12").bias[:64] *= 50
        module.get_submodule("14").weight[:, :64] = 0
    context = training_context(tmp_path, {role: digits_rows(tmp_path, slice(0, 128))})
    useless = trained.program.rebuilt(module)

    def useful(criterion: str) -> int:
        changed = pruned(useless, tmp_path, context, criterion=criterion, rows=role, include=["12"])
        return sum(place >= 64 for place in kept(changed, "12.weight"))

    assert useful("taylor") == 64
    assert useful("l2") < 48


def test_labels_beyond_the_classes_are_refused(trained: Model, tmp_path: Path) -> None:
    rows = digits_rows(tmp_path, slice(0, 64))
    few = as_program(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 5)), IMAGE)
    with pytest.raises(TrainingLabelsOutOfRange, match="0 to 9; the model has 5 classes"):
        pruned(few, tmp_path, training_context(tmp_path, {"train": rows}), criterion="taylor")


def test_half_of_the_channels_and_training_keep_the_accuracy(trained: Model, tmp_path: Path) -> None:
    """A quarter of the parameters is left, and few of the right answers until the rest has learned to do without."""
    held_out = digits_rows(tmp_path, slice(1000, None))
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 1000))})
    smaller = apply_step(PruneChannels(), trained, context).model
    recovered = apply_step(FineTune(epochs=6, learning_rate=3e-3), smaller, context).model

    assert parameters(recovered.program) < 0.27 * parameters(trained.program)
    before, cut, after = (top1(model, held_out) for model in (trained, smaller, recovered))
    assert cut < after - 0.02
    assert before - after < 0.02


def test_single_zeros_survive_under_their_names(trained: Model, tmp_path: Path) -> None:
    context = training_context(tmp_path, {})
    sparse = apply_step(PruneWeights(sparsity=0.8), trained, context).model
    changed = apply_step(PruneChannels(), sparse, context)

    assert changed.model.sparse == sparse.sparse != frozenset()
    for name in changed.model.sparse:
        weight = changed.model.program.exported.state_dict[name]
        before = sparse.program.exported.state_dict[name]
        for axis, positions in json.loads(changed.files["kept-channels.json"].read_text())[name].items():
            before = before.index_select(int(axis), torch.tensor(positions))
        assert torch.equal(weight == 0, before == 0)
    assert any("2:4" in note for note in changed.notes)


def test_a_result_that_is_not_exact_is_not_delivered(cnn: Program) -> None:
    channels = analyse(cnn)
    pruned_mask, others = np.zeros((2, len(channels.classes)), bool)
    pruned_mask[channels.groups[2].classes[:64]] = True
    others[channels.groups[2].classes[1:65]] = True
    smaller = cnn.rebuilt(removed(channels, pruned_mask))

    proof = require_exact(channels, pruned_mask, smaller)
    assert proof.difference < 1e-5 < 0.01 < proof.effect
    with pytest.raises(NotExact, match=r"Parameter 7\.weight of the smaller model"):
        require_exact(channels, others, smaller)


class Idle(nn.Module):
    """[rows, 8] to [rows, 4], with hidden units that count for nothing."""

    def __init__(self, factor: float = 0.0) -> None:
        super().__init__()
        self.factor, self.one, self.two, self.out = factor, nn.Linear(8, 32), nn.Linear(32, 4), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x) + self.factor * self.two(torch.relu(self.one(x)))


def test_channels_that_no_output_depends_on_are_said_to_be_so(cnn: Program, tmp_path: Path) -> None:
    silent = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    nn.init.zeros_(silent[2].weight)
    example = {"x": torch.zeros(2, 8)}
    idle, shown = pruned(as_program(Idle(), example), tmp_path), pruned(as_program(silent, example), tmp_path)

    assert any("nothing that they compute reaches an output" in note for note in idle.notes)
    assert shown.notes == pruned(cnn, tmp_path).notes == ()
    assert shown.facts["effect_of_masking"] == 0 < 0.01 < shown.facts["effect_of_masking_random_weights"]


def test_a_comparison_that_can_show_little_says_so(tmp_path: Path) -> None:
    class Exploding(nn.Module):
        """Infinite for any but the tiniest weights."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.size = nn.Linear(8, 32), nn.Linear(32, 4), nn.Parameter(torch.zeros(1))
            nn.init.zeros_(self.two.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(torch.relu(self.one(x))) * (1e4 * self.size).exp()

    notes = pruned(as_program(Exploding(), {"x": torch.zeros(2, 8)}), tmp_path).notes
    assert any("proves little" in note for note in notes)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"target_macs": 0.5, "target_parameters": 0.5}, "both given; keep one"),
        ({"target_macs": 0.5, "ratio": 0.3}, "target_macs decides how much is removed"),
        ({"ratios": {"a": 0.5}, "scope": "global"}, "ratios belong to layers"),
    ],
)
def test_combinations_without_sense_are_refused(step: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        PruneChannels.model_validate(step)


def test_a_step_can_be_written_down_and_read_again() -> None:
    for step in (PruneChannels(), PruneChannels(target_macs=0.5), PruneChannels(ratios={"a": 0.5})):
        assert PruneChannels.model_validate_json(step.model_dump_json()) == step


def test_only_the_effect_on_the_loss_needs_rows() -> None:
    assert not PruneChannels().requires().labels
    asked = PruneChannels(criterion="taylor", rows="calibration").requires()
    assert asked.labels
    assert asked.calibration
    assert not asked.train
