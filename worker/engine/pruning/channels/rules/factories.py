"""Tensors made in the graph from nothing but a size: every position is like the others, so that any may go."""

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.channel_classes import frozen
from worker.engine.pruning.channels.edit import Edit
from worker.engine.pruning.channels.rules.base import Rewrite, Rule, by_operator


def constant(call: Call) -> Value:
    """The first state of a recurrent layer, say."""
    return tuple(call.classes.new(size) if size > 1 else frozen(size) for size in call.shape)


def resize(call: Call, edit: Edit) -> None:
    """Make it as large as what it meets."""
    dims = call.labels_of(call.node)
    edit.set_sizes("size", dims or ())


def whole(call: Call) -> Value:
    """Positions differ and mean something."""
    return call.untouchable()


def filled(call: Call) -> Value:
    """A part of a mask, say: once filled, positions differ."""
    call.freeze("positions of a filled value mean something", *(labels for dims in call.tensors() for labels in dims))
    return call.untouchable()


RULES: dict[str, Rule] = by_operator(
    {
        "zeros ones full new_zeros new_ones new_full": constant,
        "arange rand randn scalar_tensor linspace": whole,
        "fill zero": filled,
    }
)

REWRITES: dict[str, Rewrite] = by_operator(
    {
        "zeros ones full new_zeros new_ones new_full": resize,
    }
)
