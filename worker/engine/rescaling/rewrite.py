"""The prepared graph as a step wants it rescaled."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from app.spec.quantize import QuantizeStatic
from worker.engine.data import Rows
from worker.engine.onnx_file import save
from worker.engine.passes import Context, Fact
from worker.engine.rescaling.channels import channel_extremes
from worker.engine.rescaling.equalization import equalize, find_pairs, watched
from worker.engine.rescaling.index import GraphIndex


@dataclass(frozen=True)
class Rescaled:
    """A float graph that computes what the one it was made from does."""

    graph: Path
    facts: dict[str, Fact] = field(default_factory=dict)


def rescale(prepared: Path, step: QuantizeStatic, rows: Rows, context: Context, folder: Path) -> Rescaled:
    """Carry out the options of the step that move scale between layers; the graph is written into `folder`.

    Raises `CalibrationFailed`.
    """
    model = onnx.load(prepared)
    index = GraphIndex(model.graph)
    pairs = find_pairs(index) if step.equalize else ()
    if not pairs:
        return Rescaled(prepared, {"equalized_pairs": 0} if step.equalize else {})
    seen = channel_extremes(prepared, watched(pairs), rows, context)
    equalized = equalize(index, pairs, seen, per_channel=step.per_channel)
    facts: dict[str, Fact] = {
        "equalized_pairs": equalized.pairs,
        "equalized_channels": equalized.channels,
        "largest_equalization": equalized.largest,
    }
    return Rescaled(save(model, folder / "rescaled.onnx")[0], facts)
