"""distill: a student learns more from a teacher than from labels alone, of any kind of teacher."""

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.spec.architecture import Architecture
from app.spec.data import DatasetSpec
from app.spec.distill import Distill
from app.spec.finetune import FineTune
from app.spec.signature import Signature, TensorSpec
from app.spec.training import Training
from examples import digits
from tests.support.engine import zoo
from tests.support.engine.orders import data_file, model_of
from tests.support.engine.trainings import (
    BATCH,
    SIGNATURE,
    Died,
    digits_model,
    digits_rows,
    top1,
    training_context,
)
from worker.engine.context import Changed, Context
from worker.engine.data.rows import Rows
from worker.engine.model import Model, new_folder
from worker.engine.passes.distill import StudentMismatch
from worker.engine.passes.table import apply_step
from worker.engine.progress import Unheard
from worker.engine.torch_program.program import Program
from worker.engine.torch_program.pt2 import load_program
from worker.engine.training.distillation import FeatureMismatch
from worker.engine.training.features import UnknownFeature
from worker.engine.training.teachers import TeacherMismatch

TEACHER = "mdl_" + "1" * 32


@pytest.fixture
def teacher(digits_folder: Path, tmp_path: Path) -> Model:
    """The trained digits network: 32 to 128 channels."""
    program = load_program(digits_folder / "digits.pt2", SIGNATURE, tmp_path)
    return Model(program, SIGNATURE, new_folder(tmp_path / "scratch"))


def student(folder: Path, seed: int = 0) -> Model:
    """A fresh network of an eighth of the teacher's width."""
    return digits_model(digits.digits_cnn(seed, width=4).eval(), folder)


def with_teacher(context: Context, teacher: Model) -> Context:
    return replace(context, teacher=lambda model: {TEACHER: teacher}[model])


def test_a_student_beats_itself_without_a_teacher(teacher: Model, tmp_path: Path) -> None:
    """Three seeds, 100 labelled rows for both: 80.8 % against 66.8 % right answers."""
    test = digits_rows(tmp_path, slice(1000, None))
    rows = {"train": digits_rows(tmp_path, slice(0, 100)), "validation": digits_rows(tmp_path, slice(200, 300))}
    plan = {"epochs": 12, "batch": 32, "learning_rate": 0.01}

    def results(step: Training) -> list[float]:
        contexts = (with_teacher(training_context(tmp_path, rows, seed=seed), teacher) for seed in range(3))
        return [top1(apply_step(step, student(tmp_path, context.seed), context).model, test) for context in contexts]

    alone = results(FineTune.model_validate(plan))
    taught = results(Distill.model_validate(plan | {"teacher": TEACHER}))

    assert statistics.mean(taught) > statistics.mean(alone) + 0.03


@pytest.mark.parametrize(("loss", "share"), [("dist", 0.75), ("kd", 0.75), ("mse", 0.3)])
def test_answers_alone_are_enough(teacher: Model, tmp_path: Path, loss: str, share: float) -> None:
    rows = {"train": digits_rows(tmp_path, slice(0, 400), labels=False)}
    step = Distill.model_validate(
        {"teacher": TEACHER, "loss": loss, "alpha": 1, "epochs": 4, "batch": 16, "learning_rate": 0.01}
    )
    changed = apply_step(step, student(tmp_path), with_teacher(training_context(tmp_path, rows), teacher))

    assert top1(changed.model, digits_rows(tmp_path, slice(1000, None))) > share
    assert changed.facts["loss_function"] == loss
    assert "validation_top1" not in changed.facts
    assert "a loss of" in changed.summary


def test_an_onnx_teacher_teaches_the_same(teacher: Model, digits_folder: Path, tmp_path: Path) -> None:
    rows = {"train": digits_rows(tmp_path, slice(0, 200))}
    step = Distill.model_validate(
        {
            "teacher": TEACHER,
            "epochs": 3,
            "learning_rate": 0.01,
            "features": [{"student": "relu_1", "teacher": "relu_2"}],
        }
    )
    onnx = model_of(digits_folder / "digits.onnx", tmp_path)
    names = [node.name for node in teacher.program.graph_module().graph.nodes]
    assert "relu_2" in names

    losses = [
        apply_step(step, student(tmp_path), with_teacher(training_context(tmp_path, rows), one)).facts["loss"]
        for one in (teacher, onnx)
    ]

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_damaged_model_recovers_from_the_jobs_own_input(teacher: Model, tmp_path: Path) -> None:
    module = teacher.program.graph_module()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(weight.std(correction=0) * torch.randn_like(weight))
    damaged = teacher.with_program(teacher.program.rebuilt(module))
    context = training_context(tmp_path, {"train": digits_rows(tmp_path, slice(0, 500))})

    changed = apply_step(Distill(epochs=2), damaged, replace(context, original=teacher))

    test = digits_rows(tmp_path, slice(1000, None))
    assert top1(damaged, test) < 0.8 < 0.93 < top1(changed.model, test)


def matched(folder: Path, teacher: Model, student_node: str, teacher_node: str, epochs: int = 1) -> Changed:
    step = Distill.model_validate(
        {
            "teacher": TEACHER,
            "loss": "features",
            "alpha": 1,
            "epochs": epochs,
            "batch": 16,
            "learning_rate": 0.01,
            "features": [{"student": student_node, "teacher": teacher_node}],
        }
    )
    rows = {"train": digits_rows(folder, slice(0, 300))}
    return apply_step(step, student(folder), with_teacher(training_context(folder, rows), teacher))


def test_features_are_matched_through_a_projection(teacher: Model, tmp_path: Path) -> None:
    changed = matched(tmp_path, teacher, "relu_2", "relu_2", epochs=4)

    losses = changed.charts[0].series[1].values
    assert losses[-1] < 0.6 * losses[0]
    before = student(tmp_path).program.exported.state_dict
    after = changed.model.program.exported.state_dict
    assert not torch.equal(before["7.weight"], after["7.weight"])
    assert torch.equal(before["14.weight"], after["14.weight"]), "what is behind the feature learns nothing"


def test_features_that_are_not_there_are_named(teacher: Model, tmp_path: Path) -> None:
    with pytest.raises(UnknownFeature, match="The student has no node 'relu2'; close to it are relu"):
        matched(tmp_path, teacher, "relu2", "relu_2")
    with pytest.raises(UnknownFeature, match="The teacher has no node"):
        matched(tmp_path, teacher, "relu_2", "gelu")
    with pytest.raises(FeatureMismatch):
        matched(tmp_path, teacher, "relu_2", "linear")


def test_a_killed_distillation_ends_with_the_same_weights(teacher: Model, tmp_path: Path) -> None:
    class Dying(Unheard):
        left = 0

        def advance(self, fraction: float, message: str = "") -> None:
            self.left -= 1
            if self.left == 0:
                raise Died

    step = Distill.model_validate(
        {
            "teacher": TEACHER,
            "epochs": 2,
            "features": [{"student": "relu_1", "teacher": "relu_1"}],
        }
    )
    rows = {"train": digits_rows(tmp_path, slice(0, 140))}

    def weights(folder: Path, batches: int) -> dict[str, torch.Tensor]:
        progress = Dying()
        progress.left = batches
        context = with_teacher(training_context(folder, rows, keep=True, progress=progress), teacher)
        return dict(apply_step(step, student(folder), context).model.program.exported.state_dict)

    whole = weights(tmp_path / "whole", 0)
    with pytest.raises(Died):
        weights(tmp_path / "killed", 3)
    again = weights(tmp_path / "killed", 0)

    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Model, Context]:
    """A network of three-channel images with other names than torchvision's, and a few rows for it."""
    random = np.random.default_rng(0)
    arrays = {
        "photo": random.standard_normal((12, 3, 32, 32)).astype(np.float32),
        "y": random.integers(0, 4, 12),
    }
    np.savez(tmp_path / "photos.npz", **arrays)
    rows = Rows.open(tmp_path, data_file("photos.npz", DatasetSpec()), ["photo"])
    signature = Signature(
        inputs=(TensorSpec(name="photo", dtype="float32", shape=(BATCH, 3, 32, 32)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, 4)),),
    )
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    program = Program(zoo.program(network, torch.zeros(2, 3, 32, 32)), signature)
    model = Model(program, signature, new_folder(tmp_path / "scratch"))
    return model, replace(training_context(tmp_path, {"train": rows}), original=model)


def fresh(classes: int, side: int = 32) -> Architecture:
    return Architecture.model_validate(
        {
            "architecture": "torchvision:squeezenet1_1",
            "kwargs": {"num_classes": classes},
            "input": {"name": "image", "shape": [3, side, side]},
        }
    )


def test_a_new_network_takes_the_models_place(photos: tuple[Model, Context]) -> None:
    model, context = photos
    changed = apply_step(Distill(student=fresh(4), epochs=1), model, context)

    assert [one.name for one in changed.model.signature.inputs] == ["photo"]
    answers = changed.model.program({"photo": np.zeros((3, 3, 32, 32), np.float32)})
    assert answers["scores"].shape == (3, 4)
    assert len(list(changed.model.program.graph_module().parameters())) == 52


def test_a_new_network_of_another_kind_does_not(photos: tuple[Model, Context]) -> None:
    model, context = photos
    with pytest.raises(StudentMismatch, match=r"The student returns .*5\], the model .*4\]"):
        apply_step(Distill(student=fresh(5), epochs=1), model, context)


def test_a_teacher_of_another_kind_is_an_error(teacher: Model, photos: tuple[Model, Context]) -> None:
    model, context = photos
    with pytest.raises(TeacherMismatch, match=r"The teacher takes 'image' .*, the student 'photo'"):
        apply_step(Distill(teacher=TEACHER, epochs=1), model, with_teacher(context, teacher))
