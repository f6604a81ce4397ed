"""One file per deployment format: carries out a model's plan in the way its runtime wants and writes the file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app.spec.target import Target
from worker.engine.model import Model


@dataclass(frozen=True)
class Origin:
    """Where an artifact comes from; written into it."""

    job: str
    recipe_sha256: str
    parent_sha256: str


Deliver = Callable[[Any, Model, Origin, Path], list[Path]]
IMPLEMENTATIONS: dict[type, Deliver] = {}
T = TypeVar("T")


def delivers(target: type[T]) -> Callable[[Callable[[T, Model, Origin, Path], list[Path]]], Deliver]:
    """Register a function as the way to deliver for a kind of target; each has exactly one."""

    def register(function: Callable[[T, Model, Origin, Path], list[Path]]) -> Deliver:
        if target in IMPLEMENTATIONS:
            raise ValueError(f"{target.__name__} is implemented twice")
        IMPLEMENTATIONS[target] = function
        return function

    return register


def deliver(target: Target, model: Model, origin: Origin, out: Path) -> list[Path]:
    """Write the model for one target into the folder `out`; the files, the loadable one first."""
    # Imported here, because each registers itself with this module.
    from worker.engine.targets import onnx  # noqa: F401

    return IMPLEMENTATIONS[type(target)](target, model, origin, out)
