"""Trainings at the edge: fixed batches of one row, classes without weight, probabilities, labels that are pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from app.spec.data import DatasetSpec
from app.spec.distill import Distill
from app.spec.signature import Signature, TensorSpec
from app.spec.training import Augmentation, RandomCrop, RandomFlip, Training
from tests.support.engine import zoo
from tests.support.engine.orders import data_file
from tests.support.engine.trainings import BATCH, training_context
from worker.engine.data.batches import Batch, Source
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.export import export_onnx
from worker.engine.torch_program.fold_batch_norm import fold_batch_norms
from worker.engine.torch_program.modes import training_mode
from worker.engine.torch_program.program import Program
from worker.engine.training.augmentation import augmented
from worker.engine.training.distillation import DistillationLoss
from worker.engine.training.loop import train
from worker.engine.training.losses import IGNORED, LabelLoss, label_loss
from worker.engine.training.rows import epoch_order
from worker.engine.training.squashed_outputs import as_logits, squashed_outputs


def table(folder: Path, rows: int) -> Rows:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, rows)
    values = random.standard_normal((rows, 4)).astype(np.float32)
    values[:, 0] += np.where(labels, 3, -3)
    np.savez(folder / "table.npz", x=values, y=labels)
    return Rows.open(folder, data_file("table.npz", DatasetSpec()), ["x"])


def table_program(net: nn.Module, batch: int | None) -> Program:
    """Two classes of rows of four numbers, for one batch size or any."""
    size = BATCH if batch is None else batch
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(size, 4)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(size, 2)),),
    )
    if batch is None:
        return Program(zoo.program(net.eval(), torch.zeros(2, 4)), signature)
    return Program(torch.export.export(net.eval(), (torch.zeros(batch, 4),)), signature)


def classifier(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2), *last)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_program_for_few_rows_trains_on_every_row(tmp_path: Path, batch: int) -> None:
    assert max(np.concatenate(list(epoch_order(7, batch, seed=0, epoch=1, fixed=True)))) == 6
    assert len(list(epoch_order(7, 1, seed=0, epoch=1, fixed=True))) == 7
    program, config = table_program(classifier(), batch), Training(epochs=3, learning_rate=0.03, batch=12)
    context = training_context(tmp_path, {"train": table(tmp_path, 120)})
    module, steps = program.graph_module(), 0

    def count() -> None:
        nonlocal steps
        steps += 1

    done = train(program, module, config, label_loss(config, program, context), context, name="test", after_step=count)

    assert done.best["top1"] > 0.95
    assert steps == 3 * -(-108 // 12), "the gradients of a step are those of `config.batch` rows"
    assert all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values())


def test_a_batch_norm_of_one_value_keeps_its_statistics() -> None:
    module = table_program(classifier(), 1).graph_module()
    before = module.get_buffer("1.running_var").clone()

    with training_mode(module):
        module(torch.ones(1, 4))

    assert torch.equal(module.get_buffer("1.running_var"), before)


def batch_of(scores: torch.Tensor, labels: torch.Tensor) -> tuple[dict[str, torch.Tensor], Batch]:
    source = Source(None)  # type: ignore[arg-type]  # nothing is read of it
    return {"scores": scores}, Batch({}, labels, source, np.arange(len(labels)))


def test_classes_without_weight_add_nothing() -> None:
    scores, weights = torch.randn(6, 3, requires_grad=True), torch.tensor([1.0, 2.0, 0.0])
    loss = LabelLoss("scores", weights, smoothing=0.1)

    left_out = loss(*batch_of(scores, torch.full((6,), 2)))
    left_out.backward()
    mixed = torch.tensor([0, 1, 2, 0, 1, 2])

    assert left_out == 0
    assert torch.equal(scores.grad, torch.zeros(6, 3))
    expected = functional.cross_entropy(scores, mixed, weights, label_smoothing=0.1)
    assert torch.allclose(loss(*batch_of(scores, mixed)), expected)
    assert LabelLoss("scores")(*batch_of(scores, torch.full((6,), IGNORED))) == 0


@pytest.mark.parametrize(
    ("last", "squash"),
    [
        ((nn.Softmax(1),), "softmax"),
        ((nn.Softmax(-1), nn.Dropout(0.5), nn.Identity()), "softmax"),
        ((nn.Sigmoid(),), "sigmoid"),
        ((nn.LogSoftmax(1),), None),
        ((nn.Softmax(0),), None),
        ((), None),
    ],
)
def test_probabilities_are_seen_and_undone(tmp_path: Path, last: tuple[nn.Module, ...], squash: str | None) -> None:
    program = table_program(classifier(*last), None if last[:1] != (nn.Softmax(0),) else 2)
    assert squashed_outputs(program).get("scores") == squash
    if squash is None:
        return

    graph = tmp_path / "net.onnx"
    export_onnx(program, graph, threads=1, seed=0)
    assert squashed_outputs(graph) == {"scores": squash}
    scores = torch.randn(5, 2)
    given = scores.softmax(1) if squash == "softmax" else scores.sigmoid()
    undone = as_logits(given, squash)
    assert torch.allclose(undone.log_softmax(1), scores.log_softmax(1), atol=1e-4)


def test_a_softmax_learns_like_its_scores(tmp_path: Path) -> None:
    reached = []
    for last in ((), (nn.Softmax(1),)):
        program, config = table_program(classifier(*last), None), Training(epochs=2, learning_rate=0.02, batch=16)
        context = training_context(tmp_path, {"train": table(tmp_path, 120)})
        loss = label_loss(config, program, context)
        done = train(program, program.graph_module(), config, loss, context, name="test")
        reached.append([epoch["validation_loss"] for epoch in done.history])

    assert reached[1] == pytest.approx(reached[0], rel=0.02)


def test_distilling_compares_scores_of_both_sides() -> None:
    scores, taught = torch.randn(6, 3), torch.randn(6, 3)

    def value(loss: str, student: torch.Tensor, teacher: torch.Tensor, **squashed: dict[str, str]) -> float:
        step = Distill(teacher="input", loss=loss, alpha=1)
        outputs, batch = batch_of(student, torch.zeros(6))
        made = DistillationLoss(
            step,
            {"scores": "scores"},
            lambda _: {"answer:scores": teacher},
            None,
            {},
            squashed=squashed.get("ours", {}),
            taught_squashed=squashed.get("theirs", {}),
        )
        return float(made(outputs, batch))

    seen = {"scores": "softmax"}
    for loss in ("kd", "dist"):
        plain = value(loss, scores, taught)
        assert value(loss, scores.softmax(1), taught, ours=seen) == pytest.approx(plain, rel=1e-3)
        assert value(loss, scores, taught.softmax(1), theirs=seen) == pytest.approx(plain, rel=1e-3)
    same = value("mse", scores.softmax(1), taught.softmax(1), ours=seen, theirs=seen)
    assert same == pytest.approx(float(functional.mse_loss(scores.softmax(1), taught.softmax(1))))


@pytest.mark.parametrize("augmentation", [RandomFlip(probability=0.5), RandomCrop(padding=3)])
@pytest.mark.parametrize("classes", [True, False])
def test_labels_on_a_picture_move_with_it(augmentation: Augmentation, *, classes: bool) -> None:
    images = torch.randn(8, 1, 6, 6)
    labels = (images[:, 0] > 0).long() if classes else images * 2
    batch = Batch({"image": images}, labels, Source(None), np.arange(8))  # type: ignore[arg-type]

    moved = augmented(batch, (augmentation,), np.random.default_rng(0))

    assert not torch.equal(moved.inputs["image"], images)
    image = moved.inputs["image"]
    if classes:
        inside = moved.labels != IGNORED
        assert torch.equal(moved.labels[inside], (image[:, 0] > 0).long()[inside])
        assert bool(inside.all()) == isinstance(augmentation, RandomFlip)
    else:
        assert torch.equal(moved.labels, image * 2)


def test_class_numbers_of_whole_pictures_stay() -> None:
    batch = Batch({"image": torch.randn(6, 1, 6, 6)}, torch.arange(6), Source(None), np.arange(6))  # type: ignore[arg-type]

    assert torch.equal(augmented(batch, (RandomCrop(),), np.random.default_rng(0)).labels, torch.arange(6))


def test_a_norm_over_tokens_is_not_folded_into_a_layer_over_channels() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.layer(x))

    for shape, folded in (((2, 8, 4), 0), ((2, 4), 1)):
        net = Tokens().eval()
        module = torch.export.export(net, (torch.randn(shape),)).module(check_guards=False)
        assert fold_batch_norms(module) == folded
        x = torch.randn(shape)
        assert torch.allclose(module(x), net(x), atol=1e-5)
