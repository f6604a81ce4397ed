"""What each operator does to channels: how the labels of its results follow from those of its arguments.

A rule ties positions that must be removed together, freezes those that must stay, and returns the labels of the result.
Where sizes are written into the graph, a second function writes them anew once channels are gone.
"""

from collections.abc import Callable

from worker.engine.channels.call import Call, Value
from worker.engine.channels.edit import Edit

Rule = Callable[[Call], Value]
Rewrite = Callable[[Call, Edit], None]

RULES: dict[str, Rule] = {}
REWRITES: dict[str, Rewrite] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register the rule of these operators, separated by spaces."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def rewrites(names: str) -> Callable[[Rewrite], Rewrite]:
    """Register how the sizes in calls of these operators are written anew."""

    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(names.split(), function))
        return function

    return register


# Each registers its operators.
from worker.engine.channels.rules import (  # noqa: E402, F401
    axes,
    elementwise,
    factories,
    norms,
    products,
    recurrent,
    reductions,
    views,
    windows,
)
