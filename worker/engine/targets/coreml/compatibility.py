"""Core ML: coremltools' registry of PyTorch operators, and where all are known, a conversion."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import CoreMlTarget
from worker.engine.targets.coreml.delivery import deliver_coreml
from worker.engine.targets.support.base import Look
from worker.engine.targets.support.by_registry import by_toolchain


def coreml_compatibility(targets: tuple[CoreMlTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown, else those of the package. Raises the toolchain's errors."""
    return by_toolchain("coreml", deliver_coreml, targets, look, "coremltools {} registry of PyTorch operators".format)
