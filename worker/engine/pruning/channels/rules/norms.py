"""Normalizations: those of one channel each let it go, those over channels keep what they average over."""

import numpy as np

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.channel_classes import Dims
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator

PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")
AVERAGED = "its mean and variance are taken over them"


def per_channel(call: Call) -> Value:
    """Every channel has its own statistics; where they are taken from the input, all its positions stay."""
    dims = call.labels("input")
    over_rows = call.takes("training") and call["training"]
    if over_rows or (call.takes("use_input_stats") and call["use_input_stats"]):
        call.freeze(AVERAGED, *(dims[:1] if over_rows else ()), *dims[2:])
    for name in PER_CHANNEL:
        _follow(call, name, dims[1])
    scale = call.weight(call["weight"])
    if scale is not None:
        call.scales.add(scale)
    return call.result(dims)


def over_last(call: Call) -> Value:
    """The mean and variance would change with a normalized channel: all of them stay."""
    dims, count = call.labels("input"), len(call["normalized_shape"])
    call.freeze(AVERAGED, *dims[-count:])
    for name in ("weight", "bias"):
        affine = call.labels_of(call[name]) if call.takes(name) else None
        call.freeze(AVERAGED, *(affine or ()))
    return call.result(dims)


def group_norm(call: Call) -> Value:
    """A group of channels has its own statistics: it stays or goes as a whole. A single group stays.

    So do the positions, which each group averages over.
    """
    dims, groups = call.labels("input"), call.integer("num_groups")
    members = dims[1].reshape(groups, -1)
    call.freeze(AVERAGED, *dims[2:])
    if groups == 1:
        call.freeze(AVERAGED, dims[1])
    else:
        call.classes.union(members, members[:, :1])
    for name in ("weight", "bias"):
        _follow(call, name, dims[1])
    return dims


def fewer_groups(call: Call, edit: Edit) -> None:
    """Whole groups are gone."""
    channels, groups = call.labels("input")[1], call.integer("num_groups")
    if edit.shrinks(channels):
        edit.set("num_groups", groups * edit.left(channels) // len(channels))


def _follow(call: Call, name: str, channels: np.ndarray) -> None:
    dims: Dims | None = call.labels_of(call[name])
    if dims is not None:
        call.classes.tie(channels, dims[0])


RULES: dict[str, Rule] = by_operator(
    {
        "batch_norm instance_norm _native_batch_norm_legit_no_training cudnn_batch_norm": per_channel,
        "layer_norm rms_norm native_layer_norm": over_last,
        "group_norm": group_norm,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        "group_norm": fewer_groups,
    }
)
