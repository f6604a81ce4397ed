"""The training loop: it learns, keeps what must stay, and ends the same however often it was killed."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.spec.data import DatasetSpec
from app.spec.job import Role
from app.spec.signature import Signature, TensorSpec
from app.spec.training import Training
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import data_file
from tests.support.engine.trainings import (
    BATCH,
    SIGNATURE,
    TO_FLOAT,
    Died,
    digits_program,
    digits_rows,
    training_context,
)
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.progress import Unheard
from worker.engine.torch_program.modes import training_mode
from worker.engine.torch_program.program import Program
from worker.engine.training.device import Precision, move
from worker.engine.training.errors import NanLoss
from worker.engine.training.loop import train
from worker.engine.training.losses import ClassWeightsMismatch, TrainingLabelsOutOfRange, label_loss
from worker.engine.training.optimizer import rate_factor
from worker.engine.training.result import Trained


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


@cache
def fresh_program() -> Program:
    """It is never changed: trainings change copies of its graph."""
    return digits_program(network())


def trained(folder: Path, config: Training, batches: int = 0) -> tuple[Trained, dict[str, Tensor], list[str]]:
    """A training that is killed after some batches, or not."""
    program = fresh_program()
    module = program.graph_module()
    heard = Dying(batches)
    data = {"train": digits_rows(folder, slice(0, 200)), "validation": digits_rows(folder, slice(200, 300))}
    context = training_context(folder, data, keep=True, progress=heard)
    done = train(program, module, config, label_loss(config, program, context), context, name="test", keep_seconds=0)
    return done, dict(module.state_dict()), heard.messages


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, optimizer: str) -> None:
    config = Training.model_validate(
        {
            "epochs": 4,
            "batch": 32,
            "optimizer": optimizer,
            "learning_rate": 0.01,
            "warmup_epochs": 1,
            "augment": [{"type": "random_crop", "padding": 1}, {"type": "random_flip"}],
        }
    )
    whole, weights, _ = trained(tmp_path / "whole", config)

    for batches in (3, 7 + 4, 7 + 5):  # in epoch 1; in epoch 2; in epoch 3, reached from the checkpoint of epoch 1
        with pytest.raises(Died):
            trained(tmp_path / "killed", config, batches)
    resumed, again, messages = trained(tmp_path / "killed", config)

    assert len(messages) < 4 * 7
    assert resumed.history == whole.history
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    finished, once_more, messages = trained(tmp_path / "killed", config)
    assert not messages
    assert finished.history == whole.history
    assert all(torch.equal(once_more[name], weights[name]) for name in weights)


@pytest.fixture
def rows(tmp_path: Path) -> dict[Role, Rows]:
    return {"train": digits_rows(tmp_path, slice(0, 200)), "validation": digits_rows(tmp_path, slice(200, 300))}


def quickly(config: Training, context: Context, net: nn.Module | None = None, **more: Any) -> tuple[Trained, Program]:
    """A small training."""
    program = digits_program(net) if net else fresh_program()
    module = program.graph_module()
    done = train(program, module, config, label_loss(config, program, context), context, name="test", **more)
    return done, program


def test_the_best_epoch_is_returned_in_eval_mode(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    config = Training(epochs=8, learning_rate=0.02, batch=32)
    context = training_context(tmp_path, rows)
    done, program = quickly(config, context)

    best = max(done.history[1:], key=lambda epoch: (epoch["top1"], -(epoch["validation_loss"] or 0)))
    assert done.best == best
    assert done.best["top1"] > 0.6 > 0.3 > done.history[0]["top1"]
    images, labels = next(rows["validation"].batches(100))
    answers = program.outputs_of(done.module, {"image": torch.from_numpy(images["image"])})["logits"].argmax(1)
    assert float((answers == torch.from_numpy(labels)).float().mean()) == pytest.approx(done.best["top1"])
    assert torch.equal(
        answers, program.rebuilt(done.module).graph_module()(torch.from_numpy(images["image"])).argmax(1)
    )


def test_each_step_says_how_far_it_is(tmp_path: Path) -> None:
    _, _, messages = trained(tmp_path, Training(epochs=2, batch=100))

    assert len(messages) == 4
    assert re.fullmatch(r"epoch 1 of 2, loss \d+(\.\d+)?, \d+ s left", messages[0])
    assert messages[-1].endswith("0 s left")


def test_dropout_and_batch_norm_work_in_training_only() -> None:
    module = fresh_program().graph_module()
    images = torch.rand(64, 1, 8, 8)
    means = module.get_buffer("1.running_mean").clone()
    with torch.no_grad():
        calm = module(images)
        assert torch.equal(means, module.get_buffer("1.running_mean"))
        with training_mode(module):
            assert not torch.equal(module(images), module(images))
        assert not torch.equal(means, module.get_buffer("1.running_mean"))
        assert not torch.equal(calm, module(images)), "the running statistics have changed"
        assert torch.equal(module(images), module(images))


@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights")
def test_recurrent_layers_drop_out_in_training_only() -> None:
    lstm = nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)
    module = zoo.program(lstm, torch.zeros(2, 3, 4)).module(check_guards=False)
    series = torch.rand(8, 3, 4)
    with torch.no_grad():
        with training_mode(module):
            assert not torch.equal(module(series)[0], module(series)[0])
        assert torch.equal(module(series)[0], module(series)[0])


def test_what_trains_always_still_does_afterwards() -> None:
    always = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    module = zoo.program(always, torch.zeros(2, 1, 8, 8)).module(check_guards=False)
    images = torch.rand(8, 1, 8, 8)
    before = module(images)
    with training_mode(module):
        pass

    assert torch.equal(module(images), before)


def test_pruned_weights_stay_zero(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    pruned = network()
    with torch.no_grad():
        pruned[3].weight.mul_((torch.rand_like(pruned[3].weight) > 0.5).float())
    zeros = pruned[3].weight == 0
    context = training_context(tmp_path, rows)
    config = Training(epochs=3, learning_rate=0.01)

    kept, _ = quickly(config, context, pruned, sparse={"3.weight"})
    lost, _ = quickly(config, context, pruned)

    assert torch.equal(kept.module.get_parameter("3.weight") == 0, zeros)
    assert not (lost.module.get_parameter("3.weight") == 0).any()


def test_without_validation_rows_some_training_rows_are_held_out(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    done, _ = quickly(Training(epochs=1), training_context(tmp_path, {"train": rows["train"]}))

    assert (done.rows, done.validation_rows) == (180, 20)
    assert "20 of the training rows were held out" in done.notes[0]


def test_training_stops_when_it_no_longer_helps(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    config = Training(epochs=30, learning_rate=1e-9, schedule="constant", patience=2)
    done, _ = quickly(config, training_context(tmp_path, rows), digits.digits_cnn(0, 4).eval())

    assert len(done.history) - 1 < 30
    assert len(done.history) - 1 == done.best_epoch + 2
    assert "2 epochs without a better one" in done.notes[-1]


def test_a_model_that_computes_infinities_is_an_error(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    broken = network()
    with torch.no_grad():
        broken[0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(NanLoss):
        quickly(Training(epochs=1), training_context(tmp_path, rows), broken)


def test_labels_the_model_does_not_have_are_an_error(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    np.savez(tmp_path / "eleven.npz", image=np.zeros((4, 1, 8, 8), np.uint8), y=np.array([0, 3, 10, 1]))
    eleven = Rows.open(tmp_path, data_file("eleven.npz", TO_FLOAT), ["image"])

    for role in ("train", "validation"):
        with pytest.raises(TrainingLabelsOutOfRange, match=f"role {role} reach from 0 to 10"):
            quickly(Training(epochs=1), training_context(tmp_path, rows | {role: eleven}))


def test_class_weights_must_be_one_for_each_class(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    with pytest.raises(ClassWeightsMismatch, match="3 class weights and 10 classes"):
        quickly(Training(class_weights=(1, 2, 3)), training_context(tmp_path, rows))


def test_rare_classes_count_as_much_as_frequent_ones_if_balanced(tmp_path: Path) -> None:
    _, labels = digits.all_digits()
    frequent, rare = np.flatnonzero(labels[:1000] < 5), np.flatnonzero(labels[:1000] >= 5)[:25]
    unbalanced = digits_rows(tmp_path, np.concatenate([frequent, rare]))
    unseen = digits_rows(tmp_path, 1000 + np.flatnonzero(labels[1000:1400] >= 5))
    context = training_context(tmp_path, {"train": unbalanced, "validation": unbalanced})

    def right_on_rare(weights: str | None) -> float:
        config = Training(epochs=4, learning_rate=0.003, class_weights=weights)
        done, program = quickly(config, context, digits.digits_cnn(0, 8))
        images, numbers = next(unseen.batches(500))
        answers = program.outputs_of(done.module, {"image": torch.from_numpy(images["image"])})["logits"].argmax(1)
        return float((answers.numpy() == numbers).mean())

    assert right_on_rare("balanced") > right_on_rare(None) + 0.1


def test_smoothed_labels_make_for_smaller_scores(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    def largest_score(smoothing: float) -> float:
        config = Training(epochs=8, batch=32, learning_rate=0.01, label_smoothing=smoothing)
        done, program = quickly(config, training_context(tmp_path, rows))
        images, _ = next(rows["train"].batches(200))
        scores = program.outputs_of(done.module, {"image": torch.from_numpy(images["image"])})["logits"]
        return float(scores.detach().softmax(1).max(1).values.mean())

    assert largest_score(0.4) < largest_score(0.0) - 0.05


def test_clipping_bounds_a_step(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    def moved(clip_norm: float | None) -> float:
        config = Training(
            epochs=1,
            batch=200,
            optimizer="sgd",
            momentum=0,
            weight_decay=0,
            learning_rate=1,
            schedule="constant",
            clip_norm=clip_norm,
        )
        program = fresh_program()
        module = program.graph_module()
        start = [parameter.detach().clone() for parameter in module.parameters()]
        steps: list[float] = []

        def measure() -> None:
            pairs = zip(module.parameters(), start, strict=True)
            steps.append(sum(float((now - then).detach().square().sum()) for now, then in pairs) ** 0.5)

        context = training_context(tmp_path, rows)
        train(program, module, config, label_loss(config, program, context), context, name="test", after_step=measure)
        return steps[0]

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) > 0.1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.8536, 0.5, 0.1464]),
        ({"schedule": "step", "decay_epochs": 2, "decay_factor": 0.5}, [1, 1, 0.5, 0.5]),
        ({"schedule": "cosine", "warmup_epochs": 2}, [0, 0.5, 1, 0.5]),
    ],
)
def test_the_learning_rate_follows_its_schedule(config: dict, expected: list[float]) -> None:
    made = Training.model_validate({"epochs": 4} | config)

    assert [rate_factor(made, epoch) for epoch in range(4)] == pytest.approx(expected, abs=1e-3)


def test_a_graph_for_one_batch_size_gets_that_size(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    shape = TensorSpec(name="image", dtype="float32", shape=(16, 1, 8, 8))
    signature = SIGNATURE.model_copy(update={"inputs": (shape,)})
    program = Program(torch.export.export(network().eval(), (torch.zeros(16, 1, 8, 8),)), signature)
    context = training_context(tmp_path, rows)
    config = Training(epochs=4, batch=64, learning_rate=0.01)

    done = train(program, program.graph_module(), config, label_loss(config, program, context), context, name="test")

    assert done.best["loss"] < done.history[0]["validation_loss"]


def test_values_are_learned_by_their_squared_error(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = random.standard_normal((300, 5)).astype(np.float32)
    np.savez(tmp_path / "values.npz", table=table, y=table @ np.array([1, -2, 3, 0, 1], np.float32))
    values = Rows.open(tmp_path, data_file("values.npz", DatasetSpec()), ["table"])
    signature = Signature(
        inputs=(TensorSpec(name="table", dtype="float32", shape=(BATCH, 5)),),
        outputs=(TensorSpec(name="value", dtype="float32", shape=(BATCH, 1)),),
    )
    program = Program(zoo.program(nn.Linear(5, 1), torch.zeros(2, 5)), signature)
    context = training_context(tmp_path, {"train": values})
    config = Training(epochs=20, learning_rate=0.1, weight_decay=0, batch=32)

    done = train(program, program.graph_module(), config, label_loss(config, program, context), context, name="test")

    assert done.best["top1"] is None
    assert done.best["validation_loss"] < 0.01 < 1 < done.history[0]["validation_loss"]
    assert len(done.charts) == 1
    diverging = Training(epochs=20, optimizer="sgd", learning_rate=10)
    with pytest.raises(NanLoss, match=r"loss of batch \d+ of epoch"):
        train(program, program.graph_module(), diverging, label_loss(config, program, context), context, name="test")


def test_devices_in_a_graph_follow_its_weights() -> None:
    """Shown with the device without memory, since tests have no GPU."""

    class Padded(nn.Module):
        def forward(self, table: torch.Tensor) -> torch.Tensor:
            noise = torch.zeros(table.shape[0], 3, device=table.device)
            return torch.cat([table, noise.to(torch.device("cpu"), torch.float32)], 1)

    module = zoo.program(Padded(), torch.zeros(2, 5)).module(check_guards=False)
    move((module,), "meta")  # type: ignore[arg-type]  # not one to train on
    assert module(torch.zeros(4, 5, device="meta")).device.type == "meta"
    move((module,), "cpu")
    assert module(torch.zeros(4, 5)).shape == (4, 8)


def test_float16_is_for_gpus_alone() -> None:
    config = Training(mixed_precision=True)
    on_gpu, on_cpu = Precision.of(config, "cuda"), Precision.of(config, "cpu")

    assert (on_gpu.half, on_cpu.half, Precision.of(Training(), "cuda").half) == (True, False, False)
    assert (on_gpu.notes(config), on_cpu.notes(Training())) == ((), ())
    with on_cpu.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_without_a_gpu_mixed_precision_changes_nothing_and_says_so(tmp_path: Path, rows: dict[Role, Rows]) -> None:
    config = {"epochs": 2, "batch": 32, "learning_rate": 0.01}
    context = training_context(tmp_path, rows)
    half, _ = quickly(Training.model_validate(config | {"mixed_precision": True}), context)
    full, _ = quickly(Training.model_validate(config), context)

    assert half.history == full.history
    weights = full.module.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in half.module.state_dict().items())
    assert "mixed_precision was not used, for want of a GPU: the model was trained in float32." in half.notes
    assert not any("mixed_precision" in note for note in full.notes)
