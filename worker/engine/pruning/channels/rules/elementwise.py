"""Functions of each element: the channels of the result are those of the arguments, and all arguments share them."""

from collections.abc import Sequence

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.channel_classes import Classes, Dims, Labels, frozen
from worker.engine.pruning.channels.rules.base import Rule, by_operator
from worker.engine.torch_program.shapes import Shape


def elementwise(call: Call) -> Value:
    """Tie what meets; a size of 1 meets every position."""
    return broadcast(call.classes, call.shape, call.tensors())


def prelu(call: Call) -> Value:
    """One slope for each channel, which is the second dimension."""
    dims, slope = call.labels("self"), call.labels("weight")
    if len(slope[0]) > 1:
        call.classes.tie(dims[min(1, len(dims) - 1)], slope[0])
    return dims


def glu(call: Call) -> Value:
    """The first half of a dimension, gated by the second: position by position, they go together."""
    dims = list(call.labels("self"))
    axis = call.integer("dim") % len(dims)
    half = len(dims[axis]) // 2
    call.classes.tie(dims[axis][:half], dims[axis][half:])
    dims[axis] = dims[axis][:half]
    return tuple(dims)


def broadcast(classes: Classes, shape: Shape, tensors: Sequence[Dims]) -> Dims:
    """The labels of a result of this shape; dimensions are aligned at the last."""
    return tuple(_meet(classes, size, back, tensors) for back, size in zip(range(-len(shape), 0), shape, strict=True))


def _meet(classes: Classes, size: int, back: int, tensors: Sequence[Dims]) -> Labels:
    meeting = [dims[back] for dims in tensors if len(dims) >= -back and len(dims[back]) == size > 1]
    for labels in meeting[1:]:
        classes.union(meeting[0], labels)
    return meeting[0] if meeting else frozen(size)


RULES: dict[str, Rule] = by_operator(
    {
        """relu relu6 hardtanh silu gelu sigmoid tanh hardswish hardsigmoid leaky_relu elu selu celu mish softplus
    softsign logsigmoid log_sigmoid hardshrink softshrink threshold dropout feature_dropout alpha_dropout
    feature_alpha_dropout native_dropout bernoulli add sub mul div rsub addcmul addcdiv maximum minimum fmod
    remainder neg abs sign exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal pow square clamp clamp_min
    clamp_max clip sin cos tan asin acos atan sinh cosh erf floor ceil round trunc frac nan_to_num contiguous
    clone detach alias to _to_copy type_as where masked_fill lift_fresh_copy lift_fresh eq ne gt lt ge le
    logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not isnan isinf isfinite lerp zeros_like
    ones_like full_like empty_like rand_like randn_like view_as_real float half double int long bool""": elementwise,
        "prelu": prelu,
        "glu": glu,
    }
)
