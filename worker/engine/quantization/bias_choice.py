"""Which corrections of biases a network is better with, layer by layer.

The mean of a layer's outputs is right again after its bias was corrected, and the network may be worse for it all the
same: padded tokens with keys of exactly zero, which a normalization leaves zero, became unit vectors by any other bias
(a Swin Transformer V2 had 7.6 dB with all corrections, 17.3 without).
"""

from collections.abc import Mapping

import numpy as np

from app.spec.signature import Signature
from worker.engine.context import Context
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import with_open_biases
from worker.engine.measure.running import runner
from worker.engine.model import new_folder
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.plan.plan import StaticPlan
from worker.engine.quantization.sensitivity.reference import ReferenceOutputs
from worker.engine.quantization.sensitivity.sweep import graph_runner

FEWEST_ROWS, MOST_ROWS = 8, 32
"""That judge a layer: as many as let all layers together run no more rows than calibration did."""


def better_with(plan: StaticPlan, signature: Signature, context: Context) -> Mapping[str, np.ndarray]:
    """Those of the plan's input means whose corrections bring the outputs nearer to the float graph's.

    All are made at first, for one makes up for another; then, in the graph's order, each is taken back without which
    the outputs are no worse. Measured on calibration rows with the codes of x86, node by node as they are written.
    Raises `ModelRunFailed`.
    """
    if not plan.input_means:
        return {}
    model, biases = with_open_biases(plan, PROFILES["x86"])
    folder = new_folder(context.scratch)
    path = save(model, folder / "open_biases.onnx")[0]
    count = min(MOST_ROWS, max(FEWEST_ROWS, plan.samples // max(1, len(biases))))
    rows = context.data["calibration"].sample(count, context.seed)
    reference = ReferenceOutputs(graph_runner(plan.graph, context), rows, signature, folder)
    opened = session(path, context.threads, optimize=False)
    given = {bias.name: bias.corrected for bias in biases.values()}
    run = runner(opened, given)
    kept, least = dict(biases), reference.read(run).noise
    for number, (layer, bias) in enumerate(biases.items()):
        context.progress.advance(number / len(biases), f"bias {number + 1} of {len(biases)}")
        del given[bias.name]
        noise = reference.read(run).noise
        if noise <= least:
            least = noise
            del kept[layer]
        else:
            given[bias.name] = bias.corrected
    given.clear()
    better = least < reference.read(run).noise
    return {layer: plan.input_means[layer] for layer in kept if better}
