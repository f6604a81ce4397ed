"""A program as converters of other formats take it: sizes fixed, tensors in and out in the order of the contract."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.data.synthetic import example_shapes
from worker.engine.errors import Unconvertible
from worker.engine.torch_program.errors import ReexportFailed
from worker.engine.torch_program.program import (
    EXAMPLE_ROWS,
    Program,
    drop_derived_ranges,
    dynamic_shapes,
    forget_source,
    quiet,
)

Shapes = dict[str, tuple[int, ...]]


class _Positional(nn.Module):
    """Positional tensors in, a tuple of tensors out, however the program nests them."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.inner = program, program.graph_module()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = {tensor.name: value for tensor, value in zip(self.program.signature.inputs, tensors, strict=True)}
        return tuple(self.program.outputs_of(self.inner, inputs).values())


def with_fixed_shape(program: Program, batch: int) -> ExportedProgram:
    """The program for `batch` rows; other varying sizes are those of `fixed_shapes`. Raises `ReexportFailed`."""
    example = program.example(batch)
    try:
        with quiet():
            exported = torch.export.export(
                _Positional(program), tuple(example[t.name] for t in program.signature.inputs)
            )
    except Exception as error:  # the tracer raises whatever the graph leads to
        raise ReexportFailed(
            f"The model cannot be exported for a batch of {batch}: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    return forget_source(exported)


def flexible(program: Program, most: int) -> ExportedProgram:
    """The program for any batch up to `most` rows, and for other varying sizes up to those of its contract.

    It is traced with `most` rows: converters that decide by the size of the example decide for large ones.

    Raises `Unconvertible` for a varying size without a largest one that is not the batch, and `ReexportFailed`.
    """
    example = program.example(max(EXAMPLE_ROWS, most))
    dynamic = dynamic_shapes(_up_to(most, program.signature), example)
    module, args = _Positional(program), tuple(example[tensor.name] for tensor in program.signature.inputs)
    try:
        with quiet():
            shapes = dynamic.dynamic_shapes(module, args)
            exported = torch.export.export(module, args, dynamic_shapes=shapes)
            return forget_source(drop_derived_ranges(exported))
    except Exception as error:  # the tracer raises whatever the graph leads to
        raise ReexportFailed(
            f"The model cannot be exported for up to {most} rows: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error


def _up_to(most: int, signature: Signature) -> Signature:
    """The signature with no varying size that has no end."""
    inputs = tuple(
        tensor.model_copy(
            update={
                "shape": tuple(
                    size.model_copy(update={"max": _largest(tensor, axis, size, most)})
                    if isinstance(size, Dimension)
                    else size
                    for axis, size in enumerate(tensor.shape)
                )
            }
        )
        for tensor in signature.inputs
    )
    return signature.model_copy(update={"inputs": inputs})


def _largest(tensor: TensorSpec, axis: int, size: Dimension, most: int) -> int:
    if axis and size.max is None:
        raise Unconvertible(
            f"Dimension {size.name} of input {tensor.name} has no largest size, for which memory could be planned.",
            remedy=f"Export the program with torch.export.Dim({size.name!r}, max=...).",
        )
    return min(size.max or most, most) if axis == 0 else int(size.max or most)


def fixed_shapes(program: Program, batch: int) -> Shapes:
    """The shape of every input of `with_fixed_shape`, by name."""
    return example_shapes(program.signature, batch)


def save_fixed_shape(program: Program, batch: int, path: Path) -> None:
    """Write `with_fixed_shape` as a `.pt2` file. Raises `ReexportFailed`."""
    save(with_fixed_shape(program, batch), path)


def save(exported: ExportedProgram, path: Path) -> None:
    """Write a `.pt2` file."""
    with quiet():
        torch.export.save(exported, path)
