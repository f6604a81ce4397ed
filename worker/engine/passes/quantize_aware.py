"""quantize.aware: train the model on the grids that the integer kernels will use, and plan for exactly these."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from app.spec.distill import taught_outputs
from app.spec.quantize_aware import QuantizeAware
from worker.engine.context import Changed, Context
from worker.engine.data.batches import Batch
from worker.engine.model import Model
from worker.engine.quantization.aware.automatic import spared, told_with
from worker.engine.quantization.aware.check import compare
from worker.engine.quantization.aware.report import chart_of, notes, table_of, told
from worker.engine.quantization.aware.scales import activation_grids, widths_of
from worker.engine.quantization.aware.student import student_of
from worker.engine.quantization.aware.subject import fold, plan_with, subject_of, with_weights
from worker.engine.training.distillation import DistillationLoss
from worker.engine.training.logits import squashed_outputs
from worker.engine.training.loop import train
from worker.engine.training.losses import Loss, label_loss, learning_output
from worker.engine.training.teachers import Answers, Teacher, TeacherMismatch


def quantize_aware(step: QuantizeAware, model: Model, context: Context) -> Changed:
    """Train, and attach a `StaticPlan` with the learned scales to the model with the trained weights.

    Raises `NoTrainableGraph`, `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`, and what training raises.
    """
    folded, norms = fold(model)
    found = spared(step, folded, context)
    subject = found.subject
    widths = widths_of(step, subject.placed, context.targets, found.wide)
    rows = context.data.get("calibration", context.data["train"]).sample(step.samples, context.seed)
    grids = activation_grids(folded.prepared, widths.activations, rows, context)
    student = student_of(subject.module, subject.places, subject.placed, grids, widths.weights)
    trained = train(
        subject.decomposed,
        student.module,
        step,
        _loss(step, model, context),
        context,
        name=step.type,
        sparse=model.sparse,
        parameters=student.groups(step),
    )

    result = subject_of(
        folded.with_program(with_weights(folded.program, student.trained())), step.named, found.floating
    )
    plan = plan_with(result, student, len(rows))
    parity = compare(subject, student, plan, trained.output, context)
    changed = Changed(
        replace(result.model, plan=plan),
        f"Trained {len(subject.placed.layers)} layers with {step.weights} weights and {step.activations} activations "
        f"on {trained.rows} rows: {trained.outcome}.",
        {
            "weights": step.weights,
            "activations": step.activations,
            "layers": len(subject.placed.layers),
            "folded_batch_norms": norms,
            "calibration_rows": len(rows),
            **trained.facts,
            **told(parity),
        },
        charts=(*trained.charts, chart_of(subject, student)),
        tables=(table_of(subject, student),),
        notes=(*trained.notes, *notes(step, subject, parity, context)),
    )
    return changed if found.chosen is None else told_with(changed, found.chosen, plan, context)


def _loss(step: QuantizeAware, model: Model, context: Context) -> Loss:
    """Of labels, of the float model's answers, or of both."""
    teaching, program = step.distillation(), model.program
    if teaching is None:
        return label_loss(step, program, context)
    output = learning_output(step, program, context).name
    taught = taught_outputs(teaching, program.signature, program.signature, output)
    if isinstance(taught, str):
        raise TeacherMismatch(taught, remedy="Leave `distill` out, or take 'mse'.")
    labels = label_loss(step, program, context) if teaching.share < 1 else None
    teacher = Teacher(model, program.signature, context, outputs=set(taught.values()))
    answers: Callable[[Batch], Mapping[str, Tensor]] = Answers(teacher, context)
    if step.augment:  # the stored answers are those for rows as they are
        answers = lambda batch: teacher(batch.inputs)  # noqa: E731
    squashed = squashed_outputs(program)
    return DistillationLoss(teaching, taught, answers, labels, {}, squashed=squashed, taught_squashed=teacher.squashed)
