"""One file per deployment format: carries out a model's plan in the way its runtime wants and writes the file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.spec.report import Status
from app.spec.targets import Target
from worker.engine.data import Rows
from worker.engine.errors import NotReopened
from worker.engine.measure.runtime import Runtime
from worker.engine.model import Model
from worker.engine.progress import Progress


@dataclass(frozen=True)
class Origin:
    """Where an artifact comes from; written into it."""

    job: str
    recipe_sha256: str
    parent_sha256: str


@dataclass(frozen=True)
class Site:
    """What a delivery needs besides the target and the model."""

    original: Model
    """As it was uploaded: what the artifact is compared with."""
    origin: Origin
    directory: Path
    """The job's."""
    out: Path
    """Where artifacts go; it exists."""
    scratch: Path
    threads: int
    progress: Progress
    calibration: Rows | None = None
    """For targets that measure by themselves."""


@dataclass(frozen=True)
class Delivery:
    """What was written, and where it runs as long as the delivery lasts."""

    files: tuple[Path, ...]
    """The loadable one first."""
    runtime: Runtime
    usage: str
    """The text of its USAGE.md."""
    exact: bool = False
    """Nothing but the format has changed: other outputs than the original's are an error of the conversion."""
    status: Status = "executed"
    """Whether `runtime` is the target's own."""


Deliver = Callable[[Any, Model, Site], AbstractContextManager[Delivery]]
IMPLEMENTATIONS: dict[type, Deliver] = {}
T = TypeVar("T")


def delivers(target: type[T]) -> Callable[[Callable[[T, Model, Site], Iterator[Delivery]]], Deliver]:
    """Register a generator as the way to deliver for a kind of target; each has exactly one.

    It yields once, while the artifact can be run; what it does after that ends the runtime.
    """

    def register(function: Callable[[T, Model, Site], Iterator[Delivery]]) -> Deliver:
        if target in IMPLEMENTATIONS:
            raise ValueError(f"{target.__name__} is implemented twice")
        IMPLEMENTATIONS[target] = contextmanager(function)
        return IMPLEMENTATIONS[target]

    return register


Open = Callable[[Any, tuple[Path, ...], Site], AbstractContextManager[Delivery]]
OPENERS: dict[type, Open] = {}


def opens(target: type[T]) -> Callable[[Callable[[T, tuple[Path, ...], Site], Iterator[Delivery]]], Open]:
    """Register a generator as the way to open what was delivered for a kind of target earlier.

    It is given the files, the loadable one first, and yields as one that `delivers` does; it has no usage to tell.
    """

    def register(function: Callable[[T, tuple[Path, ...], Site], Iterator[Delivery]]) -> Open:
        if target in OPENERS:
            raise ValueError(f"{target.__name__} is opened twice")
        OPENERS[target] = contextmanager(function)
        return OPENERS[target]

    return register


def implementations() -> dict[type, Deliver]:
    """By kind of target."""
    # Imported here, because each registers itself with this module.
    from worker.engine.targets import coreml, executorch, litert, onnx, openvino  # noqa: F401
    from worker.engine.targets.tensorrt import delivery  # noqa: F401
    from worker.engine.targets.torchscript import delivery as torchscript  # noqa: F401
    from worker.engine.targets.triton import delivery as triton  # noqa: F401

    return IMPLEMENTATIONS


def deliver(target: Target, model: Model, site: Site) -> AbstractContextManager[Delivery]:
    """Write the model for one target; while the context lasts, the artifact can be run."""
    return implementations()[type(target)](target, model, site)


def open_delivered(target: Target, files: tuple[Path, ...], site: Site) -> AbstractContextManager[Delivery]:
    """Open files that were delivered for a target earlier, beside the original. Raises `NotReopened`."""
    implementations()  # it registers the openers, too
    if type(target) not in OPENERS:
        raise NotReopened(f"What was delivered for {target.label} cannot be opened again.")
    return OPENERS[type(target)](target, files, site)
