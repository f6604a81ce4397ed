"""Teachers: any model that runs, a program or an ONNX file, asked for its outputs and for values inside of it."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from torch import Tensor

from app.spec.distill import fitting_inputs
from app.spec.signature import Signature
from worker.engine.context import Context
from worker.engine.data.batches import filled_up
from worker.engine.errors import EngineError
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.file import save
from worker.engine.onnx_graph.sessions import session
from worker.engine.torch_program.program import Program
from worker.engine.training.device import move
from worker.engine.training.features import FEATURE, require_names, tapped
from worker.engine.training.squashed_outputs import squashed_outputs


class TeacherMismatch(EngineError):
    """The teacher does not take what the student takes, or does not return what the student returns."""

    code = "distill.teacher_mismatch"
    remedy = "Give a teacher for the same inputs and classes, or match features with loss 'features'."


ANSWER = "answer:"
"""Begins the names of a teacher's outputs; its features are `feature:NODE`."""
Run = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


class Teacher:
    """A model that answers for the inputs of its student."""

    def __init__(
        self,
        model: Model,
        student: Signature,
        context: Context,
        *,
        outputs: Collection[str],
        features: Collection[str] = (),
    ) -> None:
        """Raises `TeacherMismatch` if it cannot take the student's inputs, `UnknownFeature`."""
        feeds = fitting_inputs(model.signature, student)
        if feeds is None:
            raise TeacherMismatch("The teacher does not take the student's inputs.")
        self._feeds = feeds
        first = model.signature.inputs[0].shape[0]
        self._rows = first if isinstance(first, int) else None
        source = model.source
        self.squashed = squashed_outputs(source)
        """Its outputs that are probabilities, by name."""
        self._run = (
            _program(source, outputs, features, context.device)
            if isinstance(source, Program)
            else _onnx(source, outputs, features, context)
        )

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`answer:NAME` of outputs and `feature:NODE`, float32 `[rows, ...]`, on the device of the inputs."""
        given = {name: inputs[source] for name, source in self._feeds.items()}
        if self._rows is None:
            return self._run(given)
        count = len(next(iter(given.values())))
        order = torch.from_numpy(filled_up(np.arange(count), self._rows))
        pieces = [self._run({name: tensor[rows] for name, tensor in given.items()}) for rows in order.split(self._rows)]
        return {name: torch.cat([piece[name] for piece in pieces])[:count] for name in pieces[0]}


def _program(
    program: Program, wanted: Collection[str], features: Collection[str], device: Literal["cpu", "cuda"]
) -> Run:
    module = program.graph_module()
    move((module,), device)
    forward = tapped(program, module, features, "teacher")

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = forward(inputs)
        features = {name: tensor.float() for name, tensor in outputs.items() if name.startswith(FEATURE)}
        return {f"{ANSWER}{name}": outputs[name].float() for name in wanted} | features

    return run


def _onnx(graph: Path, outputs: Collection[str], features: Collection[str], context: Context) -> Run:
    values: dict[str, str] = {}
    if features:
        graph, values = _exposing(graph, features, new_folder(context.scratch))
    runner = session(graph, context.threads)
    wanted = {f"{ANSWER}{name}": name for name in outputs} | {
        f"{FEATURE}{name}": value for name, value in values.items()
    }

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = runner.run(list(wanted.values()), {name: tensor.numpy(force=True) for name, tensor in inputs.items()})
        return {
            name: torch.from_numpy(np.asarray(array, np.float32)).to(context.device)
            for name, array in zip(wanted, arrays, strict=True)
        }

    return run


def _exposing(graph: Path, features: Collection[str], folder: Path) -> tuple[Path, dict[str, str]]:
    """A file that returns values inside of the graph as well, and the value that each name means."""
    model = onnx.load(graph)
    values = {output: output for node in model.graph.node for output in node.output if output}
    values |= {node.name: node.output[0] for node in model.graph.node if node.name}
    require_names(features, values, "teacher")
    present = {output.name for output in model.graph.output}
    for value in sorted({values[name] for name in features} - present):
        model.graph.output.append(onnx.ValueInfoProto(name=value))
    exposing = folder / "features.onnx"
    save(model, exposing)
    return exposing, {name: values[name] for name in features}
