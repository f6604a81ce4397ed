"""A program as converters of other formats take it: sizes fixed, tensors in and out in the order of the contract."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from worker.engine.errors import ReexportFailed
from worker.engine.program import Program, forget_source, quiet
from worker.engine.synthetic import example_shapes

Shapes = dict[str, tuple[int, ...]]


class _Flat(nn.Module):
    """Positional tensors in, a tuple of tensors out, however the program nests them."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.inner = program, program.graph_module()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = {tensor.name: value for tensor, value in zip(self.program.signature.inputs, tensors, strict=True)}
        return tuple(self.program.outputs_of(self.inner, inputs).values())


def flat(program: Program, batch: int) -> ExportedProgram:
    """The program for `batch` rows; other varying sizes are those of `fixed_shapes`. Raises `ReexportFailed`."""
    example = program.example(batch)
    try:
        with quiet():
            exported = torch.export.export(_Flat(program), tuple(example[t.name] for t in program.signature.inputs))
    except Exception as error:  # the tracer raises whatever the graph leads to
        raise ReexportFailed(
            f"The model cannot be exported for a batch of {batch}: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    return forget_source(exported)


def fixed_shapes(program: Program, batch: int) -> Shapes:
    """The shape of every input of `flat`, by name."""
    return example_shapes(program.signature, batch)


def save_flat(program: Program, batch: int, path: Path) -> None:
    """Write `flat` as a `.pt2` file. Raises `ReexportFailed`."""
    with quiet():
        torch.export.save(flat(program, batch), path)
