"""What every deployment format is given, and what it hands over."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.spec.report import TargetStatus
from worker.engine.data.rows import Rows
from worker.engine.measure.runtime import Runtime
from worker.engine.model import Model
from worker.engine.progress import Progress


@dataclass(frozen=True)
class ArtifactProvenance:
    """Where an artifact comes from; written into it."""

    job: str
    recipe_sha256: str
    parent_sha256: str


@dataclass(frozen=True)
class ExportContext:
    """What a delivery needs besides the target and the model."""

    original: Model
    """As it was uploaded: what the artifact is compared with."""
    provenance: ArtifactProvenance
    directory: Path
    """The job's own folder; every path of its order is below it."""
    out: Path
    """Where artifacts go; it exists."""
    scratch: Path
    threads: int
    progress: Progress
    calibration: Rows | None = None
    """For targets that measure by themselves."""


@dataclass(frozen=True)
class Exported:
    """What was written, and where it runs as long as the delivery lasts."""

    files: tuple[Path, ...]
    """The loadable one first."""
    runtime: Runtime
    usage: str
    """The text of its USAGE.md."""
    exact: bool = False
    """Nothing but the format has changed: other outputs than the original's are an error of the conversion."""
    status: TargetStatus = "executed"
    """Whether `runtime` is the target's own."""
    pure: bool = False
    """As `exact`, but compared already when the model was opened: its outputs need no rows to prove them."""


Deliver = Callable[[Any, Model, ExportContext], AbstractContextManager[Exported]]
"""Writes the model for one target; while the context lasts, the artifact can be run."""

Reopen = Callable[[Any, tuple[Path, ...], ExportContext], AbstractContextManager[Exported]]
"""Opens files that were delivered for a target earlier, the loadable one first; there is no usage to tell."""
