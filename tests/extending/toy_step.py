"""A step is its parameters, a frozen class of the contract, and a pass that carries it out.

In the house the class is a file of `app/spec`, the pass one of `worker/engine/passes`; `STEPS` and `PASSES` have a row
for it each. This one rounds every weight to a few decimals.
"""

from dataclasses import replace
from typing import Literal

import onnx
from onnx import numpy_helper
from pydantic import Field

from app.spec.base import Step
from worker.engine.context import Changed, Context
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.file import save


class RoundWeights(Step):
    """Round every weight to a few decimals."""

    type: Literal["toy.round"] = "toy.round"
    decimals: int = Field(1, ge=0, le=6, description="Digits behind the point that are kept.")


def round_weights(step: RoundWeights, model: Model, context: Context) -> Changed:
    """An ONNX file with rounded weights; the model that was given stays as it is."""
    graph = onnx.load(model.graph)
    changed = 0
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        rounded = values.round(step.decimals)
        changed += int((rounded != values).sum())
        weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
    folder = new_folder(context.scratch)
    file = save(graph, folder / "rounded.onnx")[0]
    return Changed(
        replace(model, source=file, folder=folder),
        f"Rounded {changed} weights to {step.decimals} decimals.",
        {"rounded": changed},
    )
