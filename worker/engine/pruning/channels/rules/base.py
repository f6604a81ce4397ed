"""What each operator does to channels: how the labels of its results follow from those of its arguments.

A rule ties positions that must be removed together, freezes those that must stay, and returns the labels of the result.
Where sizes are written into the graph, a second function writes them anew once channels are gone.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from worker.engine.pruning.channels.call import Call, Value
from worker.engine.pruning.channels.edit import Edit

Rule = Callable[[Call], Value]
Rewrite = Callable[[Call, Edit], None]
T = TypeVar("T", Rule, Rewrite)


def by_operator(functions: Mapping[str, T]) -> dict[str, T]:
    """The function of each operator, from names separated by spaces."""
    return {name: function for names, function in functions.items() for name in names.split()}
