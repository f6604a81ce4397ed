"""prune.weights: set weights to zero one by one."""

from dataclasses import dataclass

import torch
from torch import fx

from app.spec.prune import PruneWeights
from app.spec.report import MOST_POINTS, Chart, Series, Table
from app.spec.units import counted, file_size
from worker.engine.errors import NoWeightsToPrune
from worker.engine.model import Model
from worker.engine.passes import Changed, Context, implements
from worker.engine.sparsity import deflated_bytes, fits_pattern, masks, scores
from worker.engine.weighted_layers import WeightedLayer, chosen, weighted_layers

NO_SPEED = (
    "CPU runtimes gain no speed from single zeros: their kernels are dense. Files do not shrink either until they are "
    "compressed, or stored by a format that leaves zeros out."
)
MOST_NAMED = 5


@dataclass(frozen=True)
class Pruned:
    """What was done to one layer."""

    name: str
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return self.zeros / self.weights


@implements(PruneWeights)
def prune_weights(step: PruneWeights, model: Model, context: Context) -> Changed:
    """Mark the least important weights as zero for good.

    Raises `NoTrainableGraph`, `UnknownLayer`, `NoWeightsToPrune`, `ReexportFailed`.
    """
    program = model.program
    module = program.graph_module()
    candidates = chosen(weighted_layers(module), step.include, step.exclude)
    layers = tuple(one for one in candidates if fits_pattern(step, one, module.get_parameter(one.parameter)))
    if not layers:
        raise NoWeightsToPrune(_nothing(step, candidates))
    before = deflated_bytes(module.parameters())
    pruned = _zero(module, layers, masks(step, scores(step, layers, program, module, context)))
    after = deflated_bytes(module.parameters())

    sparse = model.sparse | {layer.parameter for layer in layers}
    weights, zeros = sum(one.weights for one in pruned), sum(one.zeros for one in pruned)
    return Changed(
        model.with_program(program.rebuilt(module), sparse=sparse),
        f"{100 * zeros / weights:.1f} % of the weights of {counted(len(layers), 'layer')} are zero; compressed, the "
        f"parameters take {file_size(after)} instead of {file_size(before)}.",
        {
            "layers": len(layers),
            "weights": weights,
            "zeros": zeros,
            "sparsity": zeros / weights,
            "compression": "zlib, level 6",
            "compressed_bytes_before": before,
            "compressed_bytes_after": after,
        },
        charts=(_chart(pruned),),
        tables=(_table(pruned),),
        notes=(NO_SPEED, *_warnings(step, pruned, len(candidates) - len(layers))),
    )


@torch.no_grad()
def _zero(module: fx.GraphModule, layers: tuple[WeightedLayer, ...], kept: dict[str, torch.Tensor]) -> list[Pruned]:
    done = []
    for layer in layers:
        weight = module.get_parameter(layer.parameter)
        weight.masked_fill_(~layer.as_weight(kept[layer.parameter], weight), 0)
        done.append(Pruned(layer.name, weight.numel(), int((weight == 0).sum())))
    return done


def _nothing(step: PruneWeights, candidates: tuple[WeightedLayer, ...]) -> str:
    if candidates:
        return f"No layer has inputs in multiples of {step.pattern}'s blocks."
    return "No linear layer, matrix product or convolution with a floating weight is left to prune."


def _warnings(step: PruneWeights, pruned: list[Pruned], unfit: int) -> list[str]:
    warnings = []
    empty = [one.name for one in pruned if one.zeros == one.weights]
    if empty:
        named = ", ".join(empty[:MOST_NAMED])
        warnings.append(f"Nothing is left of {named}: prune less, exclude these layers, or use scope 'local'.")
    if unfit:
        warnings.append(f"{counted(unfit, 'layer')} stayed whole: {step.pattern} does not divide the number of inputs.")
    return warnings


def _chart(pruned: list[Pruned]) -> Chart:
    shown = pruned[:MOST_POINTS]
    return Chart(
        title="Sparsity by layer",
        kind="bars",
        x_label="layer",
        y_label="share of zeros",
        x=tuple(one.name for one in shown),
        series=(Series(name="zeros", values=tuple(one.sparsity for one in shown)),),
    )


def _table(pruned: list[Pruned]) -> Table:
    rows = tuple((one.name, one.weights, one.zeros, round(one.sparsity, 4)) for one in pruned[:MOST_POINTS])
    return Table(title="Zeros by layer", columns=("layer", "weights", "zeros", "sparsity"), rows=rows)
