"""quantize.aware: train the model on the grids that the integer kernels will use, and plan for exactly these."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from app.spec.distill import taught_outputs
from app.spec.quantize_aware import QuantizeAware
from worker.engine.context import Changed, Context
from worker.engine.data.batches import Batch
from worker.engine.model import Model
from worker.engine.quantization.qat.fake_quantized import fake_quantize
from worker.engine.quantization.qat.layer_choice import choose_layers, with_choice
from worker.engine.quantization.qat.parity_check import compare
from worker.engine.quantization.qat.qat_model import fold, plan_with, qat_model_of, with_weights
from worker.engine.quantization.qat.report import chart_of, notes, parity_facts, table_of
from worker.engine.quantization.qat.scales import activation_grids, widths_of
from worker.engine.training.distillation import DistillationLoss
from worker.engine.training.loop import train
from worker.engine.training.losses import Loss, label_loss, learning_output
from worker.engine.training.squashed_outputs import squashed_outputs
from worker.engine.training.teacher_answers import Answers
from worker.engine.training.teachers import Teacher, TeacherMismatch


def quantize_aware(step: QuantizeAware, model: Model, context: Context) -> Changed:
    """Train, and attach a `StaticPlan` with the learned scales to the model with the trained weights.

    Raises `NotImported`, `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`, and what training raises.
    """
    folded, norms = fold(model)
    choice = choose_layers(step, folded, context)
    subject = choice.subject
    widths = widths_of(step, subject.placed, context.targets, choice.wide)
    rows = context.data.get("calibration", context.data["train"]).sample(step.samples, context.seed)
    grids = activation_grids(folded.prepared, widths.activations, rows, context)
    fake_quantized = fake_quantize(subject.module, subject.places, subject.placed, grids, widths.weights)
    trained = train(
        subject.decomposed,
        fake_quantized.module,
        step,
        _loss(step, model, context),
        context,
        name=step.type,
        sparse=model.sparse,
        parameters=fake_quantized.groups(step),
    )

    result = qat_model_of(
        folded.with_program(with_weights(folded.program, fake_quantized.trained())), step.named, choice.floating
    )
    plan = plan_with(result, fake_quantized, len(rows))
    parity = compare(subject, fake_quantized, plan, trained.output, context)
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
            **parity_facts(parity),
        },
        charts=(*trained.charts, chart_of(subject, fake_quantized)),
        tables=(table_of(subject, fake_quantized),),
        notes=(*trained.notes, *notes(step, subject, parity, context)),
    )
    return changed if choice.chosen is None else with_choice(changed, choice.chosen, plan, context)


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
