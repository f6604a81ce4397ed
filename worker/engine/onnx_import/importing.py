"""From an ONNX file to an exported program: prepared, proven, exported, proven again at other sizes."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.export import Dim, ExportedProgram, ShapesCollection

from app.errors import PareError
from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.data.synthetic import batch_names, example_batch
from worker.engine.onnx_import.errors import ImportDiffers, ImportFailed, SizesFixed
from worker.engine.onnx_import.module import GraphModule
from worker.engine.onnx_import.preparing import prepared
from worker.engine.onnx_import.proof import difference, require_same, tensors_of
from worker.engine.onnx_import.reference import Example, examples_of
from worker.engine.onnx_import.values import array_of
from worker.engine.onnx_import.weights import Weights
from worker.engine.torch_program.program import Program, forget_source, quiet

OTHER_ROWS = 5
EXPORT_TOLERANCE = 1e-3
"""Between the program and the module that it was traced from: the same operators, other kernels at times."""
FIXED = re.compile(r"inputs'\]\[(\d+)\]\.(?:size\(\)|shape)\[(\d+)\]")
"""How the tracer names an axis that it had to fix."""
MOST_TRACES = 4


def import_onnx(path: Path, signature: Signature, *, threads: int, seed: int = 0) -> Program:
    """The program of an ONNX file: its weights are parameters under their names, its sizes vary as they did.

    It computes what ONNX Runtime does with the file on one random batch, and what its own operators do at other sizes.
    Raises `OperatorNotImported`, `NotConstant`, `SizesFixed`, `ImportDiffers`, `ImportFailed`, `LoadFailed`.
    """
    module = module_of(onnx.load(path))
    examples = _fitting(module, path, signature, threads=threads, seed=seed)
    first = next(examples)
    require_same(module, path, first, threads)
    module.drop_unread()
    program = _exported_at_some_size(module, itertools.chain([first], examples))
    _require_same_at_other_sizes(program, module, seed)
    return program


def _fitting(module: GraphModule, path: Path, signature: Signature, *, threads: int, seed: int) -> Iterator[Example]:
    """Yield the examples that both ONNX Runtime and the module run on, the smallest first."""
    failure: PareError | None = None
    fits = False
    for example in examples_of(path, signature, threads, seed):
        try:
            with torch.no_grad():
                module.run(tensors_of(module, example.inputs))
        except PareError as error:
            failure = failure or error
            continue
        fits = True
        yield example
    if not fits:
        raise failure or ImportFailed("ONNX Runtime does not run the file on any inputs of its declared shapes.")


def _exported_at_some_size(module: GraphModule, examples: Iterator[Example]) -> Program:
    """The program traced at the smallest size at which its sizes may vary: one that shrinks to 1 inside is fixed."""
    failure: PareError | None = None
    for example in itertools.islice(examples, MOST_TRACES):
        try:
            return Program(exported(module, example), example.signature)
        except SizesFixed as error:
            failure = failure or error
            if not any(_varies(tensor) for tensor in example.signature.inputs):
                break
    raise failure or ImportFailed("There is no example to trace.")


def _varies(tensor: TensorSpec) -> bool:
    """Whether a size beside the first may be larger."""
    return any(isinstance(size, Dimension) for size in tensor.shape[1:])


def module_of(model: onnx.ModelProto) -> GraphModule:
    """The file as a module, for eager calls. Raises `LoadFailed`."""
    graph = prepared(model)
    module = GraphModule(graph, Weights(graph))
    module.eval()
    return module


def exported(module: GraphModule, example: Example) -> ExportedProgram:
    """The module traced with every varying size kept. Raises `SizesFixed`, `ImportFailed` and what its nodes raise."""
    args = tensors_of(module, example.inputs)
    dynamic = ShapesCollection()
    for tensor, value in zip(example.signature.inputs, args, strict=True):
        dynamic[value] = {
            axis: Dim.DYNAMIC(min=max(2, size.min or 2), max=size.max)
            for axis, size in enumerate(tensor.shape)
            if isinstance(size, Dimension)
        }
    try:
        with quiet():
            shapes = dynamic.dynamic_shapes(module, args)
            return forget_source(torch.export.export(module, args, dynamic_shapes=shapes))
    except PareError:
        raise
    except Exception as error:  # the tracer raises whatever the graph leads to
        raise _explained(error, example.signature) from error


def _explained(error: Exception, signature: Signature) -> PareError:
    text = str(error)
    if isinstance(error.__cause__, PareError):
        return error.__cause__
    for number, axis in FIXED.findall(text):
        if int(number) < len(signature.inputs):
            tensor = signature.inputs[int(number)]
            size: Any = tensor.shape[int(axis)] if int(axis) < len(tensor.shape) else None
            if isinstance(size, Dimension):
                return SizesFixed(
                    f"Axis {axis} of input '{tensor.name}' ('{size.name}') cannot vary in a program: a number written "
                    "into the graph fixes it, as in a Reshape, or it is the steps of a recurrent layer."
                )
    reason = next((line for line in text.splitlines() if line.strip()), "")[:300]
    return ImportFailed(f"PyTorch cannot export the imported graph: {type(error).__name__}: {reason}")


def _require_same_at_other_sizes(program: Program, module: GraphModule, seed: int) -> None:
    """Sizes that the example had by chance must not be in the program."""
    inputs = example_batch(_larger(program.signature), OTHER_ROWS, seed + 1)
    tensors = tensors_of(module, inputs)
    with torch.no_grad():
        try:
            want = module.run(tensors)
        except PareError:
            return  # these sizes do not fit together in the file either
        got = program(inputs)
    for name, expected in zip(module.graph.outputs, want, strict=True):
        apart = difference(got[name], array_of(expected))
        if apart > EXPORT_TOLERANCE:
            raise ImportDiffers(f"Output '{name}' of the exported program is another at other sizes of the inputs.")


def _larger(signature: Signature) -> Signature:
    """Varying sizes, the batch aside, twice as large where they may be."""
    batch = batch_names(signature)

    def doubled(size: int | Dimension) -> int | Dimension:
        if not isinstance(size, Dimension) or size.name in batch:
            return size
        least = 2 * max(size.min or 16, 16)
        return size if size.max is not None and least > size.max else size.model_copy(update={"min": least})

    inputs = tuple(
        tensor.model_copy(update={"shape": tuple(doubled(size) for size in tensor.shape)})
        for tensor in signature.inputs
    )
    return signature.model_copy(update={"inputs": inputs})
