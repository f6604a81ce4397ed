"""Training mode of an exported graph: the mode of each operator is a literal in it, `module.train()` does nothing."""

import contextlib
from collections.abc import Iterator

import torch
from torch import fx
from torch._ops import OpOverload

MODE_ARGUMENTS = frozenset({"train", "training"})
"""What aten calls it in batch_norm, dropout, lstm, gru, rnn and rrelu. `instance_norm` has `use_input_stats`, which is
not a mode: it is true in both."""


@contextlib.contextmanager
def training_mode(module: fx.GraphModule) -> Iterator[None]:
    """Let operators that were exported for inference train within the block.

    Those that were exported in training mode (batch norm without running statistics, dropout that is always on) stay
    in it afterwards. A batch norm that sees one value of each channel, as behind a linear layer in a graph for one row,
    goes on with the statistics that it has: one value has no variance.

    torchao's `move_exported_model_to_train` would reset momentum and eps of batch norms.
    """
    flipped = [
        (node, argument)
        for graph in _graphs(module)
        for node in graph.graph.nodes
        if (argument := _mode(node)) is not None and not _argument(node, argument) and _has_variance(node)
    ]
    _set(module, flipped, training=True)
    try:
        yield
    finally:
        _set(module, flipped, training=False)


def _set(module: fx.GraphModule, places: list[tuple[fx.Node, tuple[int, str]]], *, training: bool) -> None:
    for node, (index, name) in places:
        if index < len(node.args):
            node.update_arg(index, training)
        else:
            node.update_kwarg(name, training)
    for graph in _graphs(module) if places else ():
        graph.recompile()


def _graphs(module: fx.GraphModule) -> list[fx.GraphModule]:
    """The graph and those nested in it, such as bodies of `torch.no_grad` blocks."""
    return [submodule for submodule in module.modules() if isinstance(submodule, fx.GraphModule)]


def _mode(node: fx.Node) -> tuple[int, str] | None:
    """Position and name of the operator's argument for its mode."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return None
    for index, argument in enumerate(node.target._schema.arguments):  # noqa: SLF001  # the only way to it
        if argument.name in MODE_ARGUMENTS and isinstance(argument.type, torch.BoolType):
            return index, argument.name
    return None


def _has_variance(node: fx.Node) -> bool:
    """Whether batch statistics of this operator, if it has such, are of more than one value."""
    if node.target is not torch.ops.aten.batch_norm.default:
        return True
    shape = node.meta["val"].shape
    return any(size != 1 for size in (shape[0], *shape[2:]))


def _argument(node: fx.Node, place: tuple[int, str]) -> object:
    index, name = place
    return node.args[index] if index < len(node.args) else node.kwargs.get(name, False)
