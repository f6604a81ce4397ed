"""prune.weights: set weights to zero one by one."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from app.spec.prune import PruneWeights
from app.spec.report import MOST_POINTS, Chart, Table
from app.spec.units import counted, file_size
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.file import save
from worker.engine.pruning.errors import NoWeightsToPrune
from worker.engine.pruning.onnx_layers import onnx_weights
from worker.engine.pruning.sparsity import deflated_bytes, fits_pattern, input_norms, masks, scores
from worker.engine.pruning.weighted_layers import WeightedLayer, chosen, weighted_layers
from worker.engine.report_bars import layer_bars
from worker.engine.torch_program.program import Program

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
        """Share of weights that are 0."""
        return self.zeros / self.weights


def prune_weights(step: PruneWeights, model: Model, context: Context) -> Changed:
    """Mark the least important weights as zero for good.

    Raises `UnknownLayer`, `NoWeightsToPrune`, `ReexportFailed`, and `NotImported` where Wanda meets an ONNX file of
    which no program can be made.
    """
    stays = isinstance(model.source, Path) and step.criterion != "wanda"  # which looks into the graph as it runs
    graph = _InOnnx(model.graph) if stays else _InProgram(model.program)
    candidates = chosen(graph.layers, step.include, step.exclude)
    measured = tuple(layer for layer in candidates if graph.measures(step, layer))
    layers = tuple(layer for layer in measured if fits_pattern(step, layer, graph.weights[layer.parameter]))
    if not layers:
        raise NoWeightsToPrune(_nothing(step, candidates, measured))
    norms = graph.input_norms(step, layers, context) if step.criterion == "wanda" else {}
    before = deflated_bytes(graph.weights.values())
    kept = masks(step, scores(step, layers, graph.weights, norms))
    _require_some(step, kept)
    already = sum(int((graph.weights[layer.parameter] == 0).sum()) for layer in layers)
    pruned = _zero(graph.weights, layers, kept)
    after = deflated_bytes(graph.weights.values())

    sparse = model.sparse | {layer.parameter for layer in layers}
    total = sum(weight.numel() for weight in graph.weights.values())
    weights, zeros = sum(layer.weights for layer in pruned), sum(layer.zeros for layer in pruned)
    return Changed(
        graph.rebuilt(model, sparse),
        f"{100 * zeros / weights:.3g} % of the weights of {counted(len(layers), 'layer')} are zero, "
        f"{100 * zeros / total:.3g} % of all {total:,} parameters of the model; compressed, they "
        f"take {file_size(after)} instead of {file_size(before)}.",
        {
            "layers": len(layers),
            "weights": weights,
            "zeros": zeros,
            "zeros_before": already,
            "sparsity": zeros / weights,
            "parameters": total,
            "sparsity_of_all": zeros / total,
            "compression": "zlib, level 6",
            "compressed_bytes_before": before,
            "compressed_bytes_after": after,
        },
        charts=(_chart(pruned),),
        tables=(_table(pruned),),
        notes=(NO_SPEED, *_stayed_whole(step, candidates, measured, layers), *_warnings(pruned, already)),
    )


class _InProgram:
    """A program's weights: those of a copy of its graph."""

    def __init__(self, program: Program) -> None:
        self._program, self._module = program, program.graph_module()
        self.layers = weighted_layers(self._module)
        self.weights: dict[str, torch.Tensor] = dict(self._module.named_parameters())

    def input_norms(
        self, step: PruneWeights, layers: tuple[WeightedLayer, ...], context: Context
    ) -> dict[str, torch.Tensor]:
        """Of what the layers read on calibration rows."""
        return input_norms(step, layers, self._program, self._module, context)

    def measures(self, step: PruneWeights, layer: WeightedLayer) -> bool:
        """Whether the step's criterion can rank a layer's weights."""
        return step.criterion != "wanda" or layer.activation is not None

    def rebuilt(self, model: Model, sparse: frozenset[str]) -> Model:
        """The model with the weights as they are now."""
        return model.with_program(self._program.rebuilt(self._module), sparse=sparse)


class _InOnnx:
    """An ONNX file's weights: copies of its tensors."""

    def __init__(self, path: Path) -> None:
        self._graph = onnx.load(path)
        self._held = onnx_weights(self._graph.graph)
        self.layers = tuple(self._held.layers.values())
        self.weights = self._held.values()

    def measures(self, *_: object) -> bool:
        """Sizes of weights are all that is looked at."""
        return True

    def input_norms(self, *_: object) -> dict[str, torch.Tensor]:
        raise TypeError("Wanda works on programs")

    def rebuilt(self, model: Model, sparse: frozenset[str]) -> Model:
        """The model with a file of the weights as they are now."""
        folder = new_folder(model.folder.parent)
        self._held.replace({layer.parameter: self.weights[layer.parameter] for layer in self.layers})
        save(self._graph, folder / "pruned.onnx")
        return replace(model, source=folder / "pruned.onnx", folder=folder, sparse=sparse)


@torch.no_grad()
def _zero(
    weights: dict[str, torch.Tensor], layers: tuple[WeightedLayer, ...], kept: dict[str, torch.Tensor]
) -> list[Pruned]:
    done = []
    for layer in layers:
        weight = weights[layer.parameter]
        weight.masked_fill_(~layer.as_weight(kept[layer.parameter], weight), 0)
        done.append(Pruned(layer.name, weight.numel(), int((weight == 0).sum())))
    return done


def _require_some(step: PruneWeights, kept: dict[str, torch.Tensor]) -> None:
    """Raise `NoWeightsToPrune` if the share is less than one weight of everything that is ranked together."""
    if not all(bool(mask.all()) for mask in kept.values()):
        return
    if step.together:
        weights, where = sum(mask.numel() for mask in kept.values()), "all layers together"
    elif step.criterion == "wanda":
        weights, where = max(mask[0].numel() for mask in kept.values()), "the largest output"
    else:
        weights, where = max(mask.numel() for mask in kept.values()), "the largest layer"
    raise NoWeightsToPrune(
        f"A share of {step.share:.3g} of the {weights} weights of {where} is less than one weight.",
        remedy="Raise the sparsity, widen `include`, or drop the step.",
    )


def _nothing(step: PruneWeights, candidates: tuple[WeightedLayer, ...], measured: tuple[WeightedLayer, ...]) -> str:
    if candidates and not measured:
        return "No layer reads a value of the graph, whose norm Wanda needs; take criterion 'l1' or 'l2'."
    if candidates:
        return f"No layer has inputs in multiples of {step.pattern}'s blocks."
    return "No product, convolution, recurrent layer or embedding with a floating weight is left to prune."


def _stayed_whole(
    step: PruneWeights,
    candidates: tuple[WeightedLayer, ...],
    measured: tuple[WeightedLayer, ...],
    layers: tuple[WeightedLayer, ...],
) -> list[str]:
    notes = []
    if len(measured) < len(candidates):
        left_out = counted(len(candidates) - len(measured), "layer")
        notes.append(
            f"{left_out} stayed whole: what they read is no value of the graph, whose norm Wanda needs (embeddings, "
            "the states of recurrent layers, branches)."
        )
    if len(layers) < len(measured):
        unfit = counted(len(measured) - len(layers), "layer")
        notes.append(f"{unfit} stayed whole: {step.pattern} does not divide the number of inputs.")
    return notes


def _warnings(pruned: list[Pruned], already: int) -> list[str]:
    warnings = []
    if sum(layer.zeros for layer in pruned) == already:
        warnings.append("Every weight that was set to zero was zero before; from now on trainings keep them at zero.")
    empty = [layer.name for layer in pruned if layer.zeros == layer.weights]
    if empty:
        named = ", ".join(empty[:MOST_NAMED])
        warnings.append(f"Nothing is left of {named}: prune less, exclude these layers, or use scope 'local'.")
    return warnings


def _chart(pruned: list[Pruned]) -> Chart:
    names, shares = [layer.name for layer in pruned], [layer.sparsity for layer in pruned]
    return layer_bars("Sparsity by layer", "share of zeros", names, {"zeros": shares})


def _table(pruned: list[Pruned]) -> Table:
    rows = tuple((layer.name, layer.weights, layer.zeros, round(layer.sparsity, 4)) for layer in pruned[:MOST_POINTS])
    return Table(title="Zeros by layer", columns=("layer", "weights", "zeros", "sparsity"), rows=rows)
