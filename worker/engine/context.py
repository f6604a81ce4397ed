"""What a step is given besides its parameters and the model, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.spec.job import Role
from app.spec.report import Chart, Table
from app.spec.targets import Target
from worker.engine.checkpoints import Checkpoints
from worker.engine.data.rows import Rows
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
    """The model after a step, and what the report says of the step."""

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
