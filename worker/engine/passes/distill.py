"""distill: train a student on a teacher's answers."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from app.spec.distill import (
    Distill,
    FeatureMatch,
    in_place_of,
    student_mismatch,
    taught_outputs,
    teacher_mismatch,
)
from worker.engine.context import Changed, Context, Fact
from worker.engine.data.batches import Batch
from worker.engine.errors import EngineError
from worker.engine.model import Model
from worker.engine.torch_program.architectures import build
from worker.engine.torch_program.program import Program
from worker.engine.training.distillation import DistillationLoss, projection
from worker.engine.training.features import FEATURE, tapped
from worker.engine.training.loop import train
from worker.engine.training.losses import label_loss, learning_output
from worker.engine.training.squashed_outputs import squashed_outputs
from worker.engine.training.teacher_answers import Answers
from worker.engine.training.teachers import Teacher, TeacherMismatch


class StudentMismatch(EngineError):
    """The network that is to be the student does not take and return what the model does."""

    code = "distill.student_mismatch"
    remedy = "Set the architecture's `input` and num_classes to those of the model."


EXAMPLE_ROWS = 4
Forward = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def distill(step: Distill, model: Model, context: Context) -> Changed:
    """Train the model, or a new network that takes its place.

    Raises `NotImported`, `TeacherMismatch`, `StudentMismatch`, `UnknownFeature`, `FeatureMismatch`,
    `ReexportFailed`, and what `train` and `label_loss` raise.
    """
    program = model.program if step.student is None else _fresh(step, model, context)
    signature = program.signature
    giver = _teacher(step, context)
    output = learning_output(step, program, context).name
    reason = teacher_mismatch(step, giver.signature, signature, output)
    taught = taught_outputs(step, giver.signature, signature, output)
    if reason is not None or isinstance(taught, str):
        raise TeacherMismatch(reason or str(taught))

    module = program.graph_module()
    forward = tapped(program, module, [pair.student for pair in step.features], "student")
    teacher = Teacher(
        giver, signature, context, outputs=set(taught.values()), features=[pair.teacher for pair in step.features]
    )
    known = Answers(teacher, context)
    answers = known if not (step.augment or step.features) else _asked(teacher)
    labels = label_loss(step, program, context) if step.share < 1 else None
    projections = _projections(step, forward, teacher, program, context)
    loss = DistillationLoss(
        step,
        taught,
        answers,
        labels,
        projections,
        squashed=squashed_outputs(program),
        taught_squashed=teacher.squashed,
    )
    sparse = model.sparse if step.student is None else frozenset()
    trained = train(program, module, step, loss, context, name=step.type, sparse=sparse, forward=forward)
    return Changed(
        model.with_program(program.rebuilt(module), sparse=sparse),
        f"Distilled from {_described(step)} on {trained.rows} rows ({step.loss}): {trained.outcome}.",
        trained.facts | _facts(step, taught),
        charts=trained.charts,
        notes=trained.notes,
    )


def _facts(step: Distill, taught: Mapping[str, str]) -> dict[str, Fact]:
    matched: dict[str, Fact] = {"matched_outputs": ", ".join(taught)} if taught else {}
    return {"loss_function": step.loss, "alpha": step.share, "temperature": step.softness} | matched


def _teacher(step: Distill, context: Context) -> Model:
    if step.teacher != "input" and context.teacher is not None:
        return context.teacher(step.teacher)
    if step.teacher == "input" and context.original is not None:
        return context.original
    raise TeacherMismatch("There is no model to learn from.")


def _asked(teacher: Teacher) -> Callable[[Batch], dict[str, Tensor]]:
    return lambda batch: teacher(batch.inputs)


def _fresh(step: Distill, model: Model, context: Context) -> Program:
    """A new network with the names that the model's inputs and outputs have."""
    if step.student is None:
        raise ValueError("the student is the model itself")
    built = build(step.student, context.seed)
    reason = student_mismatch(built.signature, model.signature)
    if reason is not None:
        raise StudentMismatch(reason)
    return Program(built.exported, in_place_of(model.signature, built.signature))


def _projections(
    step: Distill, forward: Forward, teacher: Teacher, program: Program, context: Context
) -> dict[FeatureMatch, nn.Module]:
    """What turns each of the student's features into the shape of the teacher's, found by running both once."""
    if not step.features:
        return {}
    example = program.example(EXAMPLE_ROWS)
    with torch.no_grad():
        ours = forward(example)
        theirs = teacher({name: tensor.to(context.device) for name, tensor in example.items()})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return {
            pair: projection(pair, ours[f"{FEATURE}{pair.student}"], theirs[f"{FEATURE}{pair.teacher}"])
            for pair in step.features
        }


def _described(step: Distill) -> str:
    return "the job's own input" if step.teacher == "input" else "another model"
