"""finetune: train the model on labels."""

from app.spec.finetune import FineTune
from worker.engine.losses import label_loss
from worker.engine.model import Model
from worker.engine.passes import Changed, Context, implements
from worker.engine.training.loop import train


@implements(FineTune)
def finetune(step: FineTune, model: Model, context: Context) -> Changed:
    """Train a copy of the program.

    Raises `NoTrainableGraph`, `NanLoss`, `LabelsMismatch`, `TrainingLabelsOutOfRange`, `ClassWeightsMismatch`,
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
