"""Results that mix all positions of a dimension: that dimension must stay whole, the others pass through."""

from fractions import Fraction
from typing import Any

import torch
from torch import fx

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.channel_classes import frozen
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator
from worker.engine.pruning.channels.zeros import zero_keeping_norm, zero_where_gone
from worker.engine.torch_program.operators import operator_name


def reduction(call: Call) -> Value:
    """A mean over channels changes with their number, a maximum with their values.

    A sum or a norm does not change where those that are removed are zero, and a mean is a share of it: response
    normalization (ConvNeXt V2, arXiv:2301.00808) divides by one. Means of squares stay, for they are the widths of
    transformers, which are no layer's own.
    """
    dims, shape = call.labels("self"), call.shape
    gone = _reduced(call["dim"] if call.takes("dim") else None, len(dims))
    call.freeze("it is taken over them", *(dims[axis] for axis in gone if not _may_lose(call, axis - len(dims))))
    if len(shape) == len(dims):
        return tuple(frozen(1) if axis in gone else labels for axis, labels in enumerate(dims))
    return tuple(labels for axis, labels in enumerate(dims) if axis not in gone)


def rescaled_mean(call: Call, edit: Edit) -> None:
    """Divide by as many as there were."""
    dims, axes = call.labels("self"), call["dim"] if call.takes("dim") else None
    left = Fraction(1)
    for axis in _reduced(axes, len(dims)):
        left *= Fraction(edit.left(dims[axis]), len(dims[axis]))
    if left == 1:
        return
    graph = edit.node.graph
    with graph.inserting_after(edit.node):
        scaled = graph.call_function(torch.ops.aten.mul.Tensor, (edit.node, float(left)))
    edit.node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


def along(call: Call) -> Value:
    """The same shape, but every position depends on the others."""
    dims = call.labels("self")
    axes = call["dims"] if call.kind == "flip" else call["dim"]
    call.freeze("each depends on the others", *(dims[axis] for axis in _reduced(axes, len(dims))))
    return call.result(dims)


def _may_lose(call: Call, axis: int) -> bool:
    terms = call["self"]
    return zero_keeping_norm(call) and not _squares(terms) and zero_where_gone(call, terms, axis)


def _squares(value: Any) -> bool:
    if not isinstance(value, fx.Node) or value.op != "call_function":
        return False
    name = operator_name(value)
    if name == "pow":
        return bool(value.args[1] == 2)
    return name == "square" or (name == "mul" and value.args[0] is value.args[1])


def _reduced(axes: object, count: int) -> frozenset[int]:
    """The dimensions an argument names; all of them where it is left out."""
    if isinstance(axes, int):
        return frozenset({axes % count})
    if isinstance(axes, list | tuple) and axes:
        return frozenset(axis % count for axis in axes)
    return frozenset(range(count))


RULES: dict[str, Rule] = by_operator(
    {
        "mean sum amax amin var std logsumexp argmax argmin prod any all norm linalg_vector_norm": reduction,
        "softmax log_softmax _softmax _log_softmax cumsum cumprod flip sort argsort": along,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        "mean": rescaled_mean,
    }
)
