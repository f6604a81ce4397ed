"""The sizes of every value of a program, without running it: the exporter noted them, symbols and all."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from app.spec.signature import linear_size
from worker.engine.data.synthetic import example_shapes
from worker.engine.torch_program.program import EXAMPLE_ROWS, Program

Shape = tuple[int, ...]
Shapes = Shape | list[Any] | None
"""Of a tensor, of a list or tuple of them, of what holds no tensor."""

UNKNOWN_SIZE = 13
"""For a size that only the data decide, such as the number of non-zero entries: a prime, so that nothing divides it."""


def shapes_of(program: Program, module: fx.GraphModule) -> dict[fx.Node, Shapes]:
    """By node of a graph module of this program; varying dimensions have their sizes in `example_batch`."""
    example = example_shapes(program.signature, EXAMPLE_ROWS)
    sizes: dict[Any, int] = {}
    for name, node in program.input_nodes(module).items():
        for size, number in zip(node.meta["val"].shape, example[name], strict=True):
            if isinstance(size, torch.SymInt):
                sizes[size.node.expr] = number
                linear = linear_size(str(size.node.expr))
                sizes.update({symbol: linear.solved(number) for symbol in size.node.expr.free_symbols})
    return {node: _shapes(node.meta.get("val"), sizes) for node in module.graph.nodes}


def _shapes(value: Any, sizes: Mapping[Any, int]) -> Shapes:
    if isinstance(value, torch.Tensor):
        return tuple(_size(size, sizes) for size in value.shape)
    if isinstance(value, list | tuple):
        return [_shapes(item, sizes) for item in value]
    return None


def _size(size: Any, sizes: Mapping[Any, int]) -> int:
    if not isinstance(size, torch.SymInt):
        return int(size)
    expression = size.node.expr
    if expression in sizes:
        return sizes[expression]
    number = expression.xreplace({symbol: sizes.get(symbol, UNKNOWN_SIZE) for symbol in expression.free_symbols})
    return int(number)


def rows_of(program: Program) -> int:
    """The batch that `shapes_of` is for: the first dimension of the first input."""
    first = program.signature.inputs[0]
    return example_shapes(program.signature, EXAMPLE_ROWS)[first.name][0] if first.shape else 1
