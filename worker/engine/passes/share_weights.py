"""share_weights: let the weights of a tensor share a few values, and store the numbers of these."""

from dataclasses import replace
from math import prod

import onnx
from onnx import numpy_helper

from app.spec.share import ShareWeights
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.plan.layout import chosen_weights
from worker.engine.plan.plan import SharedPlan
from worker.engine.plan.sharing import share
from worker.engine.quantization.qat.qat_model import fold
from worker.engine.quantization.weights import report
from worker.engine.quantization.weights.centroids import tuned
from worker.engine.quantization.weights.shared_file import write_shared
from worker.engine.training.result import Trained

FILE = "weights.shared.safetensors"
UNPACKED = (
    "On CPUs the values are looked up when the model is loaded: the file is smaller, but speed and memory are those of "
    f"the float model. For TensorRT the shared values are written as floats; the small file is {FILE}."
)

TRAINED = "The errors by weight are those against the trained values, not against the original weights."


def share_weights(step: ShareWeights, model: Model, context: Context) -> Changed:
    """Attach a `SharedPlan` to the model, whose values are trained first if the step says so.

    Raises `UnknownNode`, `NothingToQuantize`, and with training `NotImported` and what training raises.
    """
    model, trained = _trained(step, model, context)
    graph = onnx.load(model.prepared).graph
    weights = chosen_weights(step.skip, graph, model.graph)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    plan, stored = {}, []
    for number, weight in enumerate(weights):
        context.progress.advance(number / len(weights), f"weight {number + 1} of {len(weights)}")
        shared = plan[weight.name] = share(tensors[weight.name], weight.layout, step.clusters, step.group)
        form = f"{len(shared.tables)} x {shared.clusters} values, {shared.bits} bits"
        stored.append(report.StoredWeight.of(weight, tensors[weight.name], shared.values(), form, shared.bytes))
    file = new_folder(model.folder) / FILE
    write_shared(file, plan, {name: array for name, array in tensors.items() if name not in plan})
    facts = report.facts(stored, sum(4 * prod(tensor.dims) for tensor in graph.initializer))
    return Changed(
        replace(model, plan=SharedPlan(model.prepared, plan)),
        f"{len(weights)} weights have {step.clusters} values in each table; with their tables they take "
        f"{facts['bits_per_weight']:.3g} bits a weight.",
        {
            "clusters": step.clusters,
            "tables": sum(len(shared.tables) for shared in plan.values()),
            **facts,
            **(trained.facts if trained else {}),
        },
        charts=(*(trained.charts if trained else ()), report.chart(stored)),
        tables=(report.table(stored, "Weights by size and error"),),
        notes=(UNPACKED, *((TRAINED, *trained.notes) if trained else ())),
        files={FILE: file},
    )


def _trained(step: ShareWeights, model: Model, context: Context) -> tuple[Model, Trained | None]:
    """The model with trained values, which clustering then finds again and keeps as they are."""
    if step.tune is None:
        return model, None
    folded, _ = fold(model)
    graph = onnx.load(folded.prepared).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = chosen_weights(step.skip, graph, folded.graph)
    return tuned(step, folded, (weight.layout.matrix(tensors[weight.name]) for weight in weights), context)
