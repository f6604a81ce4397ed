"""Whether a value is zero along with its channels, so that a sum over them stays what it is without them.

A removed channel counts as set to zero, weights, biases and all. What a layer makes of that is zero, and so is what
functions with f(0) = 0 make of it; a sigmoid is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import fx

from worker.engine.pruning.channels.call import Call
from worker.engine.torch_program.operators import operator_name

LAYERS = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
KEPT_AT_ZERO = """relu relu6 silu gelu tanh hardswish leaky_relu elu selu celu mish softsign dropout feature_dropout abs
    neg sign sqrt square sin tan sinh erf floor ceil round trunc contiguous clone detach alias to _to_copy expm1 log1p
    float half double nan_to_num atan asin hardshrink softshrink prelu clamp_min"""
"""f(0) = 0; `clamp_min` too where its bound is not above zero."""
NORMS = "norm linalg_vector_norm sum mean amax amin"
"""Zero where all that they are taken over is."""


def zero_where_gone(call: Call, value: Any, axis: int) -> bool:
    """Whether the positions of a value that are removed along a dimension (counted from the last: -1) are zero."""
    if not isinstance(value, fx.Node) or (labels := call.labels_of(value)) is None:
        return False
    if -axis > len(labels) or not call.classes.removable(labels[axis]):
        return False
    if value.op == "get_attr":
        return True
    if value.op != "call_function" or not hasattr(value.target, "_schema"):
        return False
    name = operator_name(value)
    rule = _RULES.get(name)
    return rule is not None and rule(replace(call, node=value), axis)


def _made_by_layer(call: Call, axis: int) -> bool:
    """Its output channels, from weights that go, and a bias that goes with them."""
    made = -1 if call.kind == "linear" else 1 - len(call.labels("weight"))
    goes = call.weight(call["weight"]) is not None and (call["bias"] is None or call.weight(call["bias"]) is not None)
    return axis == made and goes


def _normalized(call: Call, axis: int) -> bool:
    """A batch norm's scale and shift go with the channel."""
    if axis != 1 - len(call.labels("input")):
        return False
    return call["weight"] is not None or zero_where_gone(call, call["input"], axis)


def _unary(call: Call, axis: int) -> bool:
    if call.kind == "clamp_min" and not (isinstance(call["min"], int | float) and call["min"] <= 0):
        return False
    return zero_where_gone(call, call.node.args[0], axis)


def _power(call: Call, axis: int) -> bool:
    exponent = call["exponent"]
    positive = isinstance(exponent, int | float) and exponent > 0
    return positive and zero_where_gone(call, call["self"], axis)


def _product(call: Call, axis: int) -> bool:
    """One factor is enough."""
    return any(zero_where_gone(call, factor, axis) for factor in (call["self"], call["other"]))


def _quotient(call: Call, axis: int) -> bool:
    return zero_where_gone(call, call["self"], axis)


def _sum(call: Call, axis: int) -> bool:
    return all(zero_where_gone(call, term, axis) for term in (call["self"], call["other"]))


def _sum_and_product(call: Call, axis: int) -> bool:
    factors = (call["tensor1"], call["tensor2"])
    return zero_where_gone(call, call["self"], axis) and any(zero_where_gone(call, factor, axis) for factor in factors)


def _reordered(call: Call, axis: int) -> bool:
    count = len(call.shape)
    if call.kind == "permute":
        before = call["dims"][axis] % count
    else:
        first, second = (call[name] % count for name in ("dim0", "dim1"))
        before = {first: second, second: first}.get(axis % count, axis % count)
    return zero_where_gone(call, call["self"], before - count)


def _reduced(call: Call, axis: int) -> bool:
    """Over other dimensions."""
    dims, count = call["dim"] if call.takes("dim") else None, len(call.labels("self"))
    if dims is None or (call.kind == "norm" and not _at_least_one(call["p"])):
        return False
    if call.kind == "linalg_vector_norm" and not _at_least_one(call["ord"]):
        return False
    gone = {dim % count for dim in ([dims] if isinstance(dims, int) else dims)}
    left = range(count) if len(call.shape) == count else [dim for dim in range(count) if dim not in gone]
    before = left[axis]
    return before not in gone and zero_where_gone(call, call["self"], before - count)


def _at_least_one(order: object) -> bool:
    return order is None or (isinstance(order, int | float) and order >= 1)


def zero_keeping_norm(call: Call) -> bool:
    """Whether a sum, mean or norm is what it is without the zeros among its terms; a mean, once rescaled."""
    if call.kind == "norm":
        return _at_least_one(call["p"])
    return call.kind in {"sum", "mean"} or (call.kind == "linalg_vector_norm" and _at_least_one(call["ord"]))


_BY_NAMES: Mapping[str, Callable[[Call, int], bool]] = {
    LAYERS: _made_by_layer,
    "batch_norm": _normalized,
    KEPT_AT_ZERO: _unary,
    "pow": _power,
    "mul": _product,
    "div": _quotient,
    "add sub": _sum,
    "addcmul": _sum_and_product,
    "permute transpose": _reordered,
    NORMS: _reduced,
}
_RULES = {name: rule for names, rule in _BY_NAMES.items() for name in names.split()}
