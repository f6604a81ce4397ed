"""finetune: train the model on labels."""

from app.spec.finetune import FineTune
from worker.engine.context import Changed, Context
from worker.engine.model import Model
from worker.engine.training.loop import train
from worker.engine.training.losses import label_loss


def finetune(step: FineTune, model: Model, context: Context) -> Changed:
    """Train a copy of the program.

    Raises `NotImported`, `NanLoss`, `LabelsMismatch`, `TrainingLabelsOutOfRange`, `ClassWeightsMismatch`,
    `NothingToAugment`, `UnknownOutput`, `ReexportFailed`.
    """
    program = model.program
    module = program.graph_module()
    loss = label_loss(step, program, context)
    trained = train(program, module, step, loss, context, name=step.type, sparse=model.sparse)
    return Changed(
        model.with_program(program.rebuilt(module)),
        f"Fine-tuned on {trained.rows} rows: {trained.outcome}.",
        trained.facts,
        charts=trained.charts,
        notes=trained.notes,
    )
