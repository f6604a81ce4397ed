"""Results that mix all positions of a dimension: that dimension must stay whole, the others pass through."""

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.classes import frozen
from worker.engine.pruning.channels.rules.base import Rule, by_operator


def reduction(call: Call) -> Value:
    """A mean over channels changes with their number, a maximum with their values."""
    dims, shape = call.labels("self"), call.shape
    gone = _reduced(call["dim"] if call.takes("dim") else None, len(dims))
    call.classes.freeze(*(dims[axis] for axis in gone))
    if len(shape) == len(dims):
        return tuple(frozen(1) if axis in gone else labels for axis, labels in enumerate(dims))
    return tuple(labels for axis, labels in enumerate(dims) if axis not in gone)


def along(call: Call) -> Value:
    """The same shape, but every position depends on the others."""
    dims = call.labels("self")
    axes = call["dims"] if call.kind == "flip" else call["dim"]
    call.classes.freeze(*(dims[axis] for axis in _reduced(axes, len(dims))))
    return call.result(dims)


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
