"""One file per technique: turns a step of the contract into a changed model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from app.spec.base import Step
from app.spec.job import Role
from app.spec.report import Chart, Table
from app.spec.targets import Target
from worker.engine.checkpoints import Checkpoints
from worker.engine.data import Rows
from worker.engine.model import Model
from worker.engine.progress import Progress

Fact = str | int | float | bool


@dataclass(frozen=True)
class Context:
    """What a pass may use besides its step and the model."""

    data: Mapping[Role, Rows]
    scratch: Path
    """A folder of its own for temporary files."""
    threads: int
    seed: int
    progress: Progress
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train; models are handed over on the CPU."""
    original: Model | None = None
    """The job's own input, before any step."""
    teacher: Callable[[str], Model] | None = None
    """Another uploaded model that the job refers to, by its id."""
    checkpoints: Checkpoints | None = None
    """Where this step may keep its state between epochs; None: it is not kept."""
    targets: tuple[Target, ...] = ()
    """What the job delivers for: a step that trains can prepare for what they cannot do."""


@dataclass(frozen=True)
class Changed:
    """What a pass made."""

    model: Model
    summary: str
    """One sentence for the report."""
    facts: dict[str, Fact]
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    """What the reader must know to use the result."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files to deliver beside the model, by the name they get."""


Pass = Callable[[Any, Model, Context], Changed]
IMPLEMENTATIONS: dict[type[Step], Pass] = {}
S = TypeVar("S", bound=Step)


def implements(
    step: type[S],
) -> Callable[[Callable[[S, Model, Context], Changed]], Callable[[S, Model, Context], Changed]]:
    """Register a function as the implementation of a step; a step has exactly one."""

    def register(function: Callable[[S, Model, Context], Changed]) -> Callable[[S, Model, Context], Changed]:
        if step in IMPLEMENTATIONS:
            raise ValueError(f"{step.__name__} is implemented twice")
        IMPLEMENTATIONS[step] = function
        return function

    return register


def implementations() -> dict[type[Step], Pass]:
    """Every step with its implementation."""
    # Imported here, because each registers itself with this module.
    from worker.engine.passes import (  # noqa: F401
        analyze_sensitivity,
        distill,
        finetune,
        prune_channels,
        prune_weights,
        quantize_aware,
        quantize_dynamic,
        quantize_static,
        quantize_weights,
        share_weights,
    )

    return IMPLEMENTATIONS


def take(step: Step, model: Model, context: Context) -> Changed:
    """Carry out one step."""
    return implementations()[type(step)](step, model, context)
