"""What every target's compatibility is given, and how operators are counted into its table."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.spec.compatibility import MOST_OPERATORS, Compatibility, Support
from app.spec.compatibility import OperatorSupport as Operator
from app.spec.targets import Target
from worker.engine.model import Model
from worker.engine.progress import Progress

ORDER: tuple[Support, ...] = ("unsupported", "falls_back", "not_quantizable", "supported")


@dataclass(frozen=True)
class Look:
    """A model that is looked at, and where."""

    model: Model
    directory: Path
    """The job's own folder; every path of its order is below it."""
    scratch: Path
    threads: int
    progress: Progress


Knows = Callable[[tuple[Any, ...], Look], Iterator[Compatibility]]
"""Yields a table for each target it is given; all are of one format."""


@dataclass
class Tally:
    """Operators by fate; each node is counted once."""

    counted: Counter[tuple[str, Support, str, str]] = field(default_factory=Counter)

    def add(self, operator: str, status: Support, why: str, source: str, count: int = 1) -> None:
        """Count operators of one fate."""
        self.counted[operator, status, why[:500], source] += count

    def operators(self) -> tuple[Operator, ...]:
        """What stands in the way first, then by how often it occurs."""
        ranked = sorted(self.counted.items(), key=lambda entry: (ORDER.index(entry[0][1]), -entry[1], entry[0]))
        return tuple(
            Operator(operator=operator, count=count, status=status, why=why, source=source)
            for (operator, status, why, source), count in ranked[:MOST_OPERATORS]
        )


def table(target: Target, tally: Tally, refusal: str | None = None, notes: tuple[str, ...] = ()) -> Compatibility:
    """What was counted, for a target."""
    return Compatibility(
        target=target, operators=tally.operators(), refusal=None if refusal is None else refusal[:2000], notes=notes
    )
