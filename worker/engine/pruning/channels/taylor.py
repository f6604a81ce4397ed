"""The effect of each weight on the loss, to first order: |weight x gradient|, of Molchanov et al. 2019.

arXiv:1906.10771.
"""

import numpy as np
import torch

from app.spec.scores import class_axis
from worker.engine.data.batches import Source, filled_up
from worker.engine.data.rows import Rows
from worker.engine.progress import Progress
from worker.engine.pruning.channels.analysis import Channels
from worker.engine.pruning.channels.importance import Scores, by_elements
from worker.engine.training.errors import NanLoss
from worker.engine.training.losses import LabelLoss, TrainingLabelsOutOfRange, class_numbers, labelled_output
from worker.engine.training.squashed_outputs import squashed_outputs

BATCH = 32


def by_taylor(channels: Channels, rows: Rows, progress: Progress, output: str | None = None) -> Scores:
    """Sum |w dL/dw| over batches of labelled rows, in inference mode. Takes twice the memory of the weights.

    `output`: the one that the labels belong to; the first that they fit unless named. Raises `UnknownOutput`,
    `LabelsMismatch`, `TrainingLabelsOutOfRange`, `NanLoss`.
    """
    module, program = channels.program.graph_module(), channels.program
    weights = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.is_floating_point() and parameter.ndim > 1
    }
    for weight in weights.values():
        weight.requires_grad_(True)
    effects = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    labelled = labelled_output(program.signature, rows, output).name
    loss = LabelLoss(labelled, squash=squashed_outputs(program).get(labelled))
    rows_fixed = program.signature.inputs[0].shape[0]
    batch = rows_fixed if isinstance(rows_fixed, int) else BATCH
    order = filled_up(np.arange(len(rows)), batch) if isinstance(rows_fixed, int) else np.arange(len(rows))
    for number, some in enumerate(Source(rows).batches(order, batch), 1):
        outputs = program.outputs_of(module, some.inputs)
        _require_known_classes(outputs[loss.output], some.labels)
        value = loss(outputs, some)
        if not value.isfinite():
            raise NanLoss(f"The loss on the rows that the criterion looks at is {float(value)}.")
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                effects[name] += (weight.detach() * gradient).abs()
        progress.advance(min(1.0, number * batch / len(order)), "effect of the weights on the loss")
    return by_elements(channels, lambda name: effects[name].double() if name in effects else None)


def _require_known_classes(scores: torch.Tensor, labels: torch.Tensor | None) -> None:
    classes = None if labels is None else class_numbers(scores, labels)
    if classes is None:
        return
    low, high, count = int(classes.min()), int(classes.max()), scores.shape[class_axis(scores.ndim)]
    if not 0 <= low <= high < count:
        raise TrainingLabelsOutOfRange(f"The labels reach from {low} to {high}; the model has {count} classes.")
