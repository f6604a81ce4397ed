"""What measuring needs of a runtime; each format has its own in `targets/<format>/runtime.py`."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from app.spec.evaluate import Latency
from app.spec.report import LayerError, Placement, Profile, Size
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.running import Arrays

Layers = tuple[tuple[LayerError, ...], tuple[str, ...]]


class Runtime(Protocol):
    """The artifact of one target, and the original in float32 in the same format, on the runtime that loads both."""

    @property
    def name(self) -> str:
        """With its version, as the report shows it."""

    def run(self, feeds: Arrays) -> Arrays:
        """The artifact's outputs for one batch, by name. Raises `ModelRunFailed` and the toolchains' errors."""

    def take_turns(self, feeds: Arrays, settings: Latency, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of each run, float64 `[runs]`, of the original and the artifact, side by side.

        On `settings.threads` threads, by the rules of `worker.toolchains.turns`. Raises `ModelRunFailed`.
        """

    def profile(self, feeds: Arrays, threads: int) -> Profile | None:
        """The artifact's time by operator; None where the runtime does not tell. Raises the toolchains' errors."""

    def placement(self) -> Placement:
        """What the runtime executes of the artifact. Raises `LoadFailed`."""

    def layers(self, rows: AnyRows, batch: BatchRange, advance: Callable[[float], None], /) -> Layers:
        """Noise at the output of each layer, with what to know about it; nothing where outputs alone can be seen."""

    def size(self) -> Size:
        """Bytes on disk of both, as they would be deployed."""
