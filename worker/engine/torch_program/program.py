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

from app.spec.signature import Dimension, LinearSize, Signature, linear_size
from worker.engine.data.synthetic import example_batch
from worker.engine.torch_program.errors import ReexportFailed
from worker.engine.torch_program.naming import with_names
from worker.engine.torch_program.operators import operator_name

EXAMPLE_ROWS = 3
"""Not the 1 or 2 of a typical example batch, so that a batch dimension baked in by mistake shows."""
RESHAPING = frozenset({"_to_copy", "clone", "contiguous", "detach", "flatten", "reshape", "to", "unsqueeze", "view"})
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
        module = self.exported.module(check_guards=False)
        if self._changes_tensors:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            _own_buffers(module)
        with torch.inference_mode():
            outputs = self.outputs_of(module, tensors)
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
        """Made-up inputs by name that fit the signature, indices within the range of what they index."""
        batch = example_batch(self.signature, rows, seed, self.index_ranges)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    @property
    def index_ranges(self) -> dict[str, int]:
        """By name of an input that an embedding reads, directly or reshaped: the rows of its table."""
        named = dict(zip((spec.arg.name for spec in self._tensor_specs()), self.signature.inputs, strict=True))
        ranges: dict[str, int] = {}
        for node in self.exported.graph.nodes:
            if node.target is torch.ops.aten.embedding.default:
                source = _reshaped(node.args[1])
                if source.op == "placeholder" and source.name in named:
                    name, size = named[source.name].name, int(node.args[0].meta["val"].shape[0])
                    ranges[name] = min(size, ranges.get(name, size))
        return ranges

    @property
    def _changes_tensors(self) -> bool:
        """Whether it works in place, maybe on its buffers or inputs: calls must not see each other's changes."""
        return any(
            getattr(node.target, "_schema", None) is not None and node.target._schema.is_mutable  # noqa: SLF001
            for node in self.exported.graph.nodes
        )

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
        dynamic = dynamic_shapes(self.signature, example)
        try:
            with quiet():
                shapes = dynamic.dynamic_shapes(module, args, kwargs)
                exported = torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
        except Exception as error:  # the tracer raises whatever a malformed graph leads to
            raise ReexportFailed(
                f"The changed model cannot be exported again: {type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
        return Program(forget_source(drop_derived_ranges(exported)), self.signature)

    def save(self, path: Path) -> None:
        """Write a `.pt2` with the contract's names, without sample inputs and notes on the author's source."""
        with quiet():
            torch.export.save(with_names(forget_source(self.exported), self.signature), path)

    def _tensor_specs(self) -> list[Any]:
        return [spec for spec in self._input_specs() if isinstance(spec.arg, TensorArgument)]

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


def dynamic_shapes(signature: Signature, example: Mapping[str, Tensor]) -> ShapesCollection:
    """How torch.export is told which axes of the inputs vary, and how far. It takes every size to be 2 at least.

    Sizes derived from another one (`2*s77`) are told as such: a program may hold for them alone.
    """
    sizes = [size for tensor in signature.inputs for size in tensor.shape if isinstance(size, Dimension)]
    named = {
        linear.symbol: _symbol(size)
        for size in sorted(sizes, key=lambda size: linear_size(size.name).factor)
        if (linear := linear_size(size.name)).factor != 1 or linear.offset
    }
    dynamic = ShapesCollection()
    for tensor in signature.inputs:
        dynamic[example[tensor.name]] = {
            axis: _derived(named, linear_size(size.name)) or Dim.DYNAMIC(min=max(2, size.min or 2), max=size.max)
            for axis, size in enumerate(tensor.shape)
            if isinstance(size, Dimension)
        }
    return dynamic


def _symbol(size: Dimension) -> Any:
    """The dimension that a derived one is a multiple of, with the range that follows from the multiple's."""
    linear = linear_size(size.name)
    most = None if size.max is None else (size.max - linear.offset) // linear.factor
    return Dim(linear.symbol, min=linear.solved(size.min or 1), max=most)


def _derived(named: Mapping[str, Any], linear: LinearSize) -> Any:
    if linear.symbol not in named:
        return None
    multiple = named[linear.symbol] if linear.factor == 1 else linear.factor * named[linear.symbol]
    return multiple + linear.offset if linear.offset else multiple


def _own_buffers(module: torch.nn.Module) -> None:
    """Give the module copies of its buffers, which it shares with the program."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.clone())


def _reshaped(node: fx.Node) -> fx.Node:
    """What an integer value was before it was brought into another shape or width."""
    while node.op == "call_function" and operator_name(node) in RESHAPING:
        node = node.all_input_nodes[0]
    return node


def forget_source(exported: ExportedProgram) -> ExportedProgram:
    """Drop sample inputs, which hold rows of somebody's data, and stack traces, which hold paths."""
    exported.example_inputs = None
    for module in exported.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                for key in PRIVATE_META:
                    node.meta.pop(key, None)
    return exported


def drop_derived_ranges(exported: ExportedProgram) -> ExportedProgram:
    """Keep the ranges of symbols alone: torch 2.13 cannot decompose with that of `2*s77`, which follows from s77's."""
    environments = {
        id(size.node.shape_env): size.node.shape_env
        for node in exported.graph.nodes
        for size in getattr(node.meta.get("val"), "shape", ())
        if isinstance(size, torch.SymInt)
    }
    for ranges in (exported.range_constraints, *(env.var_to_range for env in environments.values())):
        for symbol in [symbol for symbol in ranges if not symbol.is_Symbol]:
            del ranges[symbol]
    return exported


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's progress lines and torch's own deprecations, which say nothing to a user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
