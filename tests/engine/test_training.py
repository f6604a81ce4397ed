"""The training loop: it learns, keeps what must stay, and ends the same however often it was killed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.spec.training import Training
from examples import digits
from tests.engine.trainings import Died, digits_program, digits_rows, training_context
from worker.engine.losses import label_loss
from worker.engine.progress import Unheard
from worker.engine.training import Trained, train


class Dying(Unheard):
    """Kills the process after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.messages: list[str] = []

    def advance(self, fraction: float, message: str = "") -> None:
        self.messages.append(message)
        self.left -= 1
        if self.left == 0:
            raise Died


def network() -> nn.Module:
    """A fresh one with everything that behaves differently in training."""
    fresh = digits.digits_cnn(seed=0, width=4)
    return nn.Sequential(*fresh[:-1], nn.Dropout(0.2), fresh[-1])


def trained(folder: Path, plan: Training, batches: int = 0) -> tuple[Trained, dict[str, Tensor], list[str]]:
    """A training that is killed after some batches, or not."""
    program = digits_program(network())
    module = program.graph_module()
    heard = Dying(batches)
    data = {"train": digits_rows(folder, slice(0, 200)), "validation": digits_rows(folder, slice(200, 300))}
    context = training_context(folder, data, keep=True, progress=heard)
    done = train(program, module, plan, label_loss(plan, program, context), context, name="test", keep_seconds=0)
    return done, dict(module.state_dict()), heard.messages


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, optimizer: str) -> None:
    plan = Training.model_validate({
        "epochs": 4, "batch": 32, "optimizer": optimizer, "learning_rate": 0.01, "warmup_epochs": 1,
        "augment": [{"type": "random_crop", "padding": 1}, {"type": "random_flip"}],
    })  # fmt: skip
    whole, weights, _ = trained(tmp_path / "whole", plan)

    for batches in (3, 7 + 4, 7 + 5):  # in epoch 1; in epoch 2; in epoch 3, reached from the checkpoint of epoch 1
        with pytest.raises(Died):
            trained(tmp_path / "killed", plan, batches)
    resumed, again, messages = trained(tmp_path / "killed", plan)

    assert len(messages) < 4 * 7
    assert resumed.history == whole.history
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    finished, once_more, messages = trained(tmp_path / "killed", plan)
    assert not messages
    assert finished.history == whole.history
    assert all(torch.equal(once_more[name], weights[name]) for name in weights)
