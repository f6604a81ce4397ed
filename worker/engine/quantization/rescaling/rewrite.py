"""The prepared graph as a step wants it rescaled."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from app.spec.quantize import QuantizeStatic
from worker.engine.context import Context, Fact
from worker.engine.data.rows import Rows
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.index import GraphIndex
from worker.engine.onnx_graph.normal_form import copy_shared_weights, share_equal_weights
from worker.engine.quantization.rescaling import equalization, smoothing
from worker.engine.quantization.rescaling.equalization import equalize, find_pairs
from worker.engine.quantization.rescaling.smoothing import find_groups, smooth
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.extremes import ChannelExtremes


@dataclass(frozen=True)
class Rescaled:
    """A float graph that computes what the one it was made from does."""

    graph: Path
    facts: dict[str, Fact] = field(default_factory=dict)


def rescale(prepared: Path, step: QuantizeStatic, rows: Rows, context: Context, folder: Path) -> Rescaled:
    """Carry out the options of the step that move scale between layers; the graph is written into `folder`.

    What they need to know of channels takes a pass over the rows of its own: the ranges that follow are those of
    the values that the rescaled graph has. Raises `CalibrationFailed`.
    """
    if not (step.equalize or step.smooth):
        return Rescaled(prepared)
    model = onnx.load(prepared)
    copy_shared_weights(model.graph)
    index = GraphIndex(model.graph)
    pairs = find_pairs(index) if step.equalize else ()
    groups = find_groups(index) if step.smooth else ()
    collector = Collector(prepared)
    seen = {
        value: collector.observe(value, ChannelExtremes(axis, index.rank(value) or 0))
        for value, axis in (equalization.watched(pairs) | smoothing.watched(groups)).items()
    }
    collector.run(rows, context)
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
    share_equal_weights(model.graph)
    graph = save(model, folder / "rescaled.onnx")[0] if pairs or groups else prepared
    return Rescaled(graph, facts)
