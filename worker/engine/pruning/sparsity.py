"""Which weights to set to zero: scores by magnitude or by Wanda, and masks by share or by N:M pattern."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from app.spec.prune import PruneWeights
from worker.engine.context import Context
from worker.engine.data.batches import Source, filled_up
from worker.engine.pruning.weighted_layers import WeightedLayer
from worker.engine.torch_program.program import Program

CALIBRATION_ROWS = 32
"""In one batch."""
CHUNK_BYTES = 1 << 20

Rows = Mapping[str, Tensor]
"""By parameter, `[outputs, places in the kernel, inputs]`."""


@torch.no_grad()
def scores(
    step: PruneWeights, layers: tuple[WeightedLayer, ...], weights: Mapping[str, Tensor], norms: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """How much each weight matters; `norms` are those of the inputs, for Wanda.

    Wanda: Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models", 2023. The norm
    of a convolution's input channel stands for all places of the kernel.
    """
    by_parameter = {}
    for layer in layers:
        size = layer.rows(weights[layer.parameter]).float().abs()
        if step.criterion == "l2":
            size = size / size.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        if step.criterion == "wanda":
            norm = norms[layer.parameter]
            size = size * norm.repeat_interleave(size.shape[0] // norm.shape[0], 0)
        by_parameter[layer.parameter] = size
    return by_parameter


def masks(step: PruneWeights, scored: Rows) -> dict[str, Tensor]:
    """True where a weight is left."""
    if step.kept_of is not None:
        return {name: _best_of_blocks(score, *step.kept_of) for name, score in scored.items()}
    if step.together:
        kept = _best(torch.cat([score.flatten() for score in scored.values()]), step.share)
        parts = kept.split([score.numel() for score in scored.values()])
        return {name: part.reshape(score.shape) for (name, score), part in zip(scored.items(), parts, strict=True)}
    if step.criterion == "wanda":
        return {name: _best_of_rows(score, step.share) for name, score in scored.items()}
    return {name: _best(score.flatten(), step.share).reshape(score.shape) for name, score in scored.items()}


def fits_pattern(step: PruneWeights, layer: WeightedLayer, weight: Tensor) -> bool:
    """Whether blocks of the pattern fill the layer's inputs."""
    return step.kept_of is None or layer.rows(weight).shape[2] % step.kept_of[1] == 0


def deflated_bytes(tensors: Iterable[Tensor]) -> int:
    """Size of the tensors when compressed (zlib, level 6), in bytes."""
    packer, total = zlib.compressobj(6), 0
    for tensor in tensors:
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
        for start in range(0, len(data), CHUNK_BYTES):
            total += len(packer.compress(data[start : start + CHUNK_BYTES]))
    return total + len(packer.flush())


def _best(score: Tensor, share: float) -> Tensor:
    """All but the `share` with the lowest scores; of equal ones, which shared and quantized weights have, the first go.

    Exactly as many as asked for: a threshold would take every weight of a layer whose weights are alike.
    """
    count = int(share * score.numel())
    if not count:
        return torch.ones_like(score, dtype=torch.bool)
    least = score.kthvalue(count).values
    kept = score >= least
    ties = (score == least).nonzero().flatten()
    kept[ties[: count - int((~kept).sum())]] = False
    return kept


def _best_of_rows(score: Tensor, share: float) -> Tensor:
    """Within each output, the weights with the highest scores."""
    rows = score.flatten(1)
    worst = rows.argsort(dim=1, stable=True)[:, : int(share * rows.shape[1])]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, worst, value=False).reshape(score.shape)


def _best_of_blocks(score: Tensor, kept: int, block: int) -> Tensor:
    """Within each block along the input, the weights with the highest scores."""
    blocks = score.reshape(*score.shape[:2], -1, block)
    worst = blocks.argsort(dim=3, stable=True)[..., : block - kept]
    return torch.ones_like(blocks, dtype=torch.bool).scatter_(3, worst, value=False).reshape(score.shape)


@torch.no_grad()
def input_norms(
    step: PruneWeights, layers: tuple[WeightedLayer, ...], program: Program, module: fx.GraphModule, context: Context
) -> dict[str, Tensor]:
    """Norms of what each layer reads on calibration rows, as they meet the rows of its weight."""
    rows = context.data["calibration"].sample(step.samples, context.seed)
    watch, order, batch = _SquareSums(module, layers), np.arange(len(rows)), CALIBRATION_ROWS
    first = program.signature.inputs[0].shape
    if first and isinstance(first[0], int):  # a fixed batch takes whole ones
        batch = first[0]
        order = filled_up(order, batch)
    for number, some in enumerate(Source(rows).batches(order, batch), 1):
        watch.run(*program.arguments(some.inputs), enable_io_processing=False)
        context.progress.advance(min(1, number * batch / len(order)), "measuring activations")
    return {layer.parameter: layer.input_norms(watch.sums[layer.parameter]) for layer in layers}


class _SquareSums(fx.Interpreter):
    """Runs the graph and adds up the squares of what each layer reads."""

    def __init__(self, module: fx.GraphModule, layers: tuple[WeightedLayer, ...]) -> None:
        super().__init__(module)
        self.sums: dict[str, Tensor] = {}
        self._readers: dict[fx.Node, list[WeightedLayer]] = {}
        for layer in layers:
            if layer.activation is not None:
                self._readers.setdefault(layer.activation, []).append(layer)

    def run_node(self, node: fx.Node) -> Any:
        """Run one operator and look at its result."""
        result = super().run_node(node)
        for layer in self._readers.get(node, ()):
            sums = layer.square_sums(result)
            self.sums[layer.parameter] = self.sums.get(layer.parameter, 0) + sums
        return result
