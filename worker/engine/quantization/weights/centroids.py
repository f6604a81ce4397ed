"""Training shared values: which weight has which value stays, what the values are is learned."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from app.spec.share import ShareWeights
from worker.engine.context import Context
from worker.engine.model import Model
from worker.engine.plan.layout import SMALLEST, Layout
from worker.engine.plan.sharing import share
from worker.engine.training.loop import train
from worker.engine.training.losses import label_loss
from worker.engine.training.result import Trained


@dataclass(frozen=True)
class Shared:
    """The clusters of one parameter."""

    parameter: nn.Parameter
    places: Tensor
    """int64, the parameter's shape: the number of each weight's value among all of the parameter's."""
    counts: Tensor
    """Weights that have each value."""

    @torch.no_grad()
    def average(self) -> None:
        """Give all weights of a cluster their mean: a gradient step of its value."""
        flat = self.places.reshape(-1).to(self.parameter.device)
        sums = torch.zeros(len(self.counts), dtype=torch.float64, device=flat.device)
        sums.index_add_(0, flat, self.parameter.reshape(-1).double())
        values = (sums / self.counts.to(flat.device).clamp_min(1)).to(self.parameter.dtype)
        self.parameter.copy_(values[flat].view_as(self.parameter))


def tuned(step: ShareWeights, model: Model, matrices: Iterable[np.ndarray], context: Context) -> tuple[Model, Trained]:
    """The model with trained shared values; `matrices` are the weights to share, as the ONNX graph has them.

    A program's parameter is shared if it is one of them, which the gates of a recurrence are not: ONNX reorders them.
    Biases and normalizations are trained along. `model` has no batch norm left that ONNX would fold, which would tear
    clusters apart. S. Han, H. Mao, W. Dally, Deep Compression, 2016, section 3.3. Raises what training raises.
    """
    if step.tune is None:
        raise ValueError("the step does not train")
    program = model.program
    module = program.graph_module()
    shared = _shared(step, module, {matrix.tobytes(): matrix.shape for matrix in matrices})

    def average() -> None:
        for parameter in shared:
            parameter.average()

    average()
    loss = label_loss(step.tune, program, context)
    trained = train(program, module, step.tune, loss, context, name=step.type, sparse=model.sparse, after_step=average)
    return model.with_program(program.rebuilt(module)), trained


def _shared(step: ShareWeights, module: fx.GraphModule, known: Mapping[bytes, tuple[int, ...]]) -> list[Shared]:
    clusters = []
    for parameter in module.parameters():
        if parameter.ndim < 2 or parameter.numel() < SMALLEST or parameter.dtype != torch.float32:
            continue
        values = parameter.detach().numpy()
        layout = next((layout for layout in _layouts(values.shape) if layout.matrix(values).tobytes() in known), None)
        if layout is not None:
            weight = share(values, layout, step.clusters, step.group)
            groups = np.arange(layout.rows) // weight.group
            places = layout.tensor(groups[:, None] * weight.clusters + weight.indices)
            counts = np.bincount(places.reshape(-1), minlength=weight.tables.size)
            clusters.append(Shared(parameter, torch.from_numpy(places), torch.from_numpy(counts)))
    return clusters


def _layouts(shape: tuple[int, ...]) -> tuple[Layout, ...]:
    """A row for each entry of the first axis, or of the second, as transposed convolutions have it."""
    swapped = (1, 0, *range(2, len(shape)))
    inner = len(shape) - 1
    return (
        Layout(tuple(range(len(shape))), shape, inner),
        Layout(swapped, tuple(shape[axis] for axis in swapped), inner),
    )
