"""The prepared graph as a step wants it rescaled."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from app.spec.quantize import QuantizeStatic
from worker.engine.context import Context, Fact
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.quantization.rescaling import equalization, smoothing
from worker.engine.quantization.rescaling.channels import channel_extremes
from worker.engine.quantization.rescaling.equalization import equalize, find_pairs
from worker.engine.quantization.rescaling.smoothing import find_groups, smooth


@dataclass(frozen=True)
class Rescaled:
    """A float graph that computes what the one it was made from does."""

    graph: Path
    facts: dict[str, Fact] = field(default_factory=dict)


def rescale(prepared: Path, step: QuantizeStatic, rows: Rows, context: Context, folder: Path) -> Rescaled:
    """Carry out the options of the step that move scale between layers; the graph is written into `folder`.

    Raises `CalibrationFailed`.
    """
    if not (step.equalize or step.smooth):
        return Rescaled(prepared)
    model = onnx.load(prepared)
    index = GraphIndex(model.graph)
    pairs = find_pairs(index) if step.equalize else ()
    groups = find_groups(index) if step.smooth else ()
    seen = channel_extremes(prepared, equalization.watched(pairs) | smoothing.watched(groups), rows, context)
    facts: dict[str, Fact] = {}
    if step.equalize:
        equalized = equalize(index, pairs, seen, per_channel=step.per_channel)
        facts |= {
            "equalized_pairs": equalized.pairs,
            "equalized_channels": equalized.channels,
            "largest_equalization": equalized.largest,
        }
    if step.smooth:
        smoothed = smooth(index, groups, seen, alpha=step.smooth_alpha)
        facts |= {"smoothed_groups": smoothed.groups, "largest_smoothing": smoothed.largest}
    graph = save(model, folder / "rescaled.onnx")[0] if pairs or groups else prepared
    return Rescaled(graph, facts)
