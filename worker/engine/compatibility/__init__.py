"""What each target makes of a model's operators: one file a runtime, which asks its own registry or makes a dry run."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from app.spec.compatibility import MOST_OPERATORS, Compatibilities, Compatibility, CompatibilityOrder, Support
from app.spec.compatibility import OperatorSupport as Operator
from app.spec.targets import Target
from worker.engine.data import SCRATCH
from worker.engine.errors import ExportFailed
from worker.engine.model import Model, load_model
from worker.engine.progress import Progress

ORDER: tuple[Support, ...] = ("unsupported", "falls back", "not quantizable", "supported")


@dataclass(frozen=True)
class Look:
    """A model that is looked at, and where."""

    model: Model
    directory: Path
    """The job's."""
    scratch: Path
    threads: int
    progress: Progress


@dataclass
class Tally:
    """Operators by fate; each node is counted once."""

    counted: Counter[tuple[str, Support, str, str]] = field(default_factory=Counter)

    def add(self, operator: str, status: Support, why: str, source: str, count: int = 1) -> None:
        """Count operators of one fate."""
        self.counted[operator, status, why[:500], source] += count

    def operators(self) -> tuple[Operator, ...]:
        """What stands in the way first, then by how often it occurs."""
        ranked = sorted(self.counted.items(), key=lambda one: (ORDER.index(one[0][1]), -one[1], one[0]))
        return tuple(
            Operator(operator=operator, count=count, status=status, why=why, source=source)
            for (operator, status, why, source), count in ranked[:MOST_OPERATORS]
        )


Knows = Callable[[tuple[Any, ...], Look], Iterator[Compatibility]]
IMPLEMENTATIONS: dict[type, Knows] = {}
F = TypeVar("F", bound=Knows)


def knows(target: type) -> Callable[[F], F]:
    """Register a generator as what is known for a kind of target: it yields a table for each target it is given."""

    def register(function: F) -> F:
        if target in IMPLEMENTATIONS:
            raise ValueError(f"{target.__name__} is known twice")
        IMPLEMENTATIONS[target] = function
        return function

    return register


def knowledge(target: type) -> Knows:
    """What is known for a kind of target: by its own file, or by a dry run of its delivery."""
    # Imported here, because each registers itself with this module.
    from worker.engine.compatibility import (  # noqa: F401
        coreml,
        dry_run,
        litert,
        onnx,
        openvino,
        tensorrt,
        torchscript,
        triton,
    )

    return IMPLEMENTATIONS.get(target, dry_run.by_delivery)


def find_out(order: CompatibilityOrder, directory: Path, progress: Progress) -> Compatibilities:
    """What the order's targets, of one format, make of its model. Raises what opening and exporting it raises."""
    started = time.monotonic()
    torch.set_num_threads(order.threads)
    scratch = directory / SCRATCH
    scratch.mkdir(exist_ok=True)
    progress.stage("opening the model", step=1, steps=2)
    model = load_model(order.model, directory, scratch, progress)  # whether it runs is the question
    look = Look(model, directory, scratch, order.threads, progress)
    progress.stage(f"asking {order.targets[0].format}", step=2, steps=2)
    try:
        tables = tuple(knowledge(type(order.targets[0]))(order.targets, look))
    except ExportFailed as error:  # a program of which these targets see the ONNX form
        tables = tuple(table(target, Tally(), f"{error.detail} {error.remedy}") for target in order.targets)
    return Compatibilities(tables=tables, knowledge=order.knowledge, seconds=time.monotonic() - started)


def table(target: Target, tally: Tally, refusal: str | None = None, notes: tuple[str, ...] = ()) -> Compatibility:
    """What was counted, for a target."""
    return Compatibility(
        target=target, operators=tally.operators(), refusal=None if refusal is None else refusal[:2000], notes=notes
    )
