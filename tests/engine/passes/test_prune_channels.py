"""prune.channels as a job takes it: what is left, what it costs, what is said about it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.channels.networks import as_program, parameters, pruned
from worker.engine.channels.errors import NothingToPrune, TargetUnreachable, UnknownLayer
from worker.engine.program import Program

IMAGE = {"image": torch.zeros(2, 1, 8, 8)}


@pytest.fixture(scope="module")
def cnn() -> Program:
    """The network of the digits example with random weights: 32, 64 and 128 channels, 128 hidden units."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 2 * 2, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
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
    with pytest.raises(UnknownLayer, match="'layer4"):
        pruned(cnn, tmp_path, exclude=["layer4.*"])
    with pytest.raises(NothingToPrune, match="leave none of the 4 groups"):
        pruned(cnn, tmp_path, exclude=["*"])
    with pytest.raises(NothingToPrune, match="blocks of 256"):
        pruned(cnn, tmp_path, round_to=256)
    with pytest.raises(NothingToPrune, match="no layer comes before another"):
        pruned(as_program(nn.Linear(8, 4), {"x": torch.zeros(2, 8)}), tmp_path)
