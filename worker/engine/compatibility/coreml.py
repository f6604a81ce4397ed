"""Core ML: coremltools' registry of PyTorch operators, and where all are known, a conversion."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import CoreMlTarget
from worker.engine.compatibility import Look, knows
from worker.engine.compatibility.programs import by_toolchain


@knows(CoreMlTarget)
def coreml(targets: tuple[CoreMlTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown, else those of the package. Raises the toolchain's errors."""
    return by_toolchain("coreml", targets, look, "coremltools {} registry of PyTorch operators".format)
