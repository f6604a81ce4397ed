"""Random parameters and inputs with which everything in a network shows at its outputs.

With its own weights a network can hide an error: a head or a layer scale that starts at zero, a branch that ReLU shuts.
How it was made smaller does not depend on the weights, so it can be tried with others.
"""

import math

import torch
from torch import Tensor, fx

from worker.engine.pruning.channels.analysis import Channels
from worker.engine.torch_program.operators import operator_name, parameters_of
from worker.engine.torch_program.program import Program

STATISTICS = ("running_mean", "running_var")
LIKE_ITS_INPUT = frozenset(
    {
        "alias",
        "clone",
        "contiguous",
        "expand",
        "flatten",
        "permute",
        "reshape",
        "select",
        "slice",
        "squeeze",
        "to",
        "_to_copy",
        "transpose",
        "unsqueeze",
        "view",
    }
)
"""What leaves indices as they are."""
COMPARISONS = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})
LOW, HIGH = 0.5, 1.5
"""Range of biases, scales and statistics: positive, so that variances are valid and most ReLUs are open."""


def random_parameters(channels: Channels, seed: int) -> dict[str, Tensor]:
    """By name, in its own shape and dtype: every floating parameter and every statistic of a batch norm.

    Weights are normal with a variance of 1 / inputs, which keeps activations in range; other buffers, such as masks
    and positions, mean something and stay.
    """
    random = torch.Generator().manual_seed(seed)
    names = {name for name, _ in channels.module.named_parameters(remove_duplicate=False)}
    names |= _statistics(channels.module)
    values = {}
    for name in channels.parameters:
        old = channels.parameter(name)
        if name in names and old.is_floating_point():
            values[name] = _drawn(old.shape, random).to(old.dtype)
    return values


def _drawn(shape: torch.Size, random: torch.Generator) -> Tensor:
    if sum(size > 1 for size in shape) < 2:  # [channels, 1, 1] scales or divides a channel each
        return torch.empty(shape).uniform_(LOW, HIGH, generator=random)
    return torch.empty(shape).normal_(0, 1 / math.sqrt(max(1, math.prod(shape[1:]))), generator=random)


def _statistics(module: fx.GraphModule) -> set[str]:
    names = set()
    for node in module.graph.nodes:
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            for parameter, argument in zip(parameters_of(node), node.args, strict=False):
                if parameter.name in STATISTICS and isinstance(argument, fx.Node) and argument.op == "get_attr":
                    names.add(str(argument.target))
    return names


def telling_inputs(program: Program, seed: int) -> dict[str, Tensor]:
    """Random inputs like `Program.example`, but indices that an embedding alone reads are drawn from all its rows."""
    inputs, module = program.example(seed=seed), program.exported.module(check_guards=False)
    random = torch.Generator().manual_seed(seed)
    for name, node in program.input_nodes(module).items():
        rows = [] if inputs[name].is_floating_point() else _rows_read(node)
        if rows and None not in rows:
            least = min(count for count in rows if count is not None)
            inputs[name] = torch.randint(0, least, inputs[name].shape, generator=random, dtype=inputs[name].dtype)
    return inputs


def _rows_read(indices: fx.Node) -> list[int | None]:
    """The rows of every embedding that reads the indices; None for a reader that may not take them all."""
    rows: list[int | None] = []
    for user in indices.users:
        name = operator_name(user)
        if name == "embedding" and user.args[1] is indices and isinstance(user.args[0], fx.Node):
            rows.append(int(user.args[0].meta["val"].shape[0]))
        elif name in LIKE_ITS_INPUT and user.args[0] is indices:
            rows += _rows_read(user)
        elif name not in COMPARISONS and isinstance(user.meta.get("val"), Tensor):  # else a size or an assertion
            rows.append(None)
    return rows
