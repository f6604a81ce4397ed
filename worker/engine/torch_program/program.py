"""An exported PyTorch program: what a job changes, step by step. It runs, is taken apart, and is exported again.

The canonical form is that of `torch.export.export`: undecomposed aten operators, in eval mode, without sample inputs.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import TensorArgument
from torch.utils._pytree import tree_flatten, tree_unflatten

from app.spec.signature import Dimension, Signature, TensorSpec
from worker.engine.data.synthetic import example_batch
from worker.engine.torch_program.errors import ReexportFailed
from worker.engine.torch_program.naming import with_names

EXAMPLE_ROWS = 3
"""Not the 1 or 2 of a typical example batch, so that a batch dimension baked in by mistake shows."""
PRIVATE_META = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
"""What the tracer notes about the author's source at each node."""


@dataclass(frozen=True)
class Program:
    """An exported program with the names its inputs and outputs have in the contract."""

    exported: ExportedProgram
    signature: Signature

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name for one batch."""
        tensors = {
            tensor.name: torch.from_numpy(np.asarray(inputs[tensor.name], order="C"))
            for tensor in self.signature.inputs
        }
        with torch.inference_mode():
            outputs = self.outputs_of(self.exported.module(check_guards=False), tensors)
        return {name: output.numpy(force=True) for name, output in outputs.items()}

    def graph_module(self) -> fx.GraphModule:
        """A copy to change: parameters and buffers are attributes, nodes are aten operators, in eval mode.

        Run it with `outputs_of`, which knows the nesting of its arguments.
        """
        with quiet():
            return copy.deepcopy(self.exported.module(check_guards=False))

    def outputs_of(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name of `module`, which takes and returns what this program does, for inputs by name."""
        args, kwargs = self._arguments([inputs[tensor.name] for tensor in self.signature.inputs])
        leaves = [leaf for leaf in tree_flatten(module(*args, **kwargs))[0] if isinstance(leaf, Tensor)]
        return {tensor.name: leaf for tensor, leaf in zip(self.signature.outputs, leaves, strict=True)}

    def input_nodes(self, module: fx.GraphModule) -> dict[str, fx.Node]:
        """The placeholders of a graph module of this program, by input name."""
        tensors = iter(self.signature.inputs)
        places = [node for node in module.graph.nodes if node.op == "placeholder"]
        return {
            next(tensors).name: node
            for node, spec in zip(places, self._input_specs(), strict=True)
            if isinstance(spec.arg, TensorArgument)
        }

    def example(self, rows: int = EXAMPLE_ROWS, seed: int = 0) -> dict[str, Tensor]:
        """Random inputs by name that fit the signature."""
        return {name: torch.from_numpy(array) for name, array in example_batch(self.signature, rows, seed).items()}

    def arguments(self, inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """Inputs by name as the flat positional arguments of the placeholders, for an `fx.Interpreter`."""
        return tuple(self._leaves([inputs[tensor.name] for tensor in self.signature.inputs]))

    def rebuilt(self, module: fx.GraphModule) -> "Program":
        """Export a changed graph module of this program again. Raises `ReexportFailed`.

        That is the verification of a step, too: shapes are propagated through the new graph with every dynamic
        dimension kept, so that a size baked in by mistake is found here and not by a user.
        """
        example = self.example()
        args, kwargs = self._arguments([example[tensor.name] for tensor in self.signature.inputs])
        dynamic = ShapesCollection()
        for tensor in self.signature.inputs:
            dynamic[example[tensor.name]] = _dynamic_axes(tensor)
        try:
            with quiet():
                shapes = dynamic.dynamic_shapes(module, args, kwargs)
                exported = torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
        except Exception as error:  # the tracer raises whatever a malformed graph leads to
            raise ReexportFailed(
                f"The changed model cannot be exported again: {type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
        return Program(forget_source(exported), self.signature)

    def save(self, path: Path) -> None:
        """Write a `.pt2` with the contract's names, without sample inputs and notes on the author's source."""
        with quiet():
            torch.export.save(with_names(forget_source(self.exported), self.signature), path)

    def _input_specs(self) -> list[Any]:
        return [spec for spec in self.exported.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]

    def _leaves(self, tensors: list[Any]) -> list[Any]:
        """Tensors, and the constants the program was exported with, in the order of the call."""
        given = iter(tensors)
        return [
            next(given) if isinstance(spec.arg, TensorArgument) else getattr(spec.arg, "value", None)
            for spec in self._input_specs()
        ]

    def _arguments(self, tensors: list[Any]) -> tuple[tuple, dict]:
        args, kwargs = tree_unflatten(self._leaves(tensors), self.exported.call_spec.in_spec)
        return args, kwargs


def _dynamic_axes(tensor: TensorSpec) -> dict[int, Any]:
    """How torch.export is told which axes vary, and how far. It takes every varying size to be 2 at least."""
    return {
        axis: Dim.DYNAMIC(min=max(2, size.min or 2), max=size.max)
        for axis, size in enumerate(tensor.shape)
        if isinstance(size, Dimension)
    }


def forget_source(exported: ExportedProgram) -> ExportedProgram:
    """Drop sample inputs, which hold rows of somebody's data, and stack traces, which hold paths."""
    exported.example_inputs = None
    for module in exported.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                for key in PRIVATE_META:
                    node.meta.pop(key, None)
    return exported


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's progress lines and torch's own deprecations, which say nothing to a user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
