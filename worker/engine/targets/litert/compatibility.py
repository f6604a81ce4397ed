"""LiteRT: litert-torch's registry of lowerings, and where all are known, a conversion that shows what XNNPACK takes."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import LiteRtTarget
from worker.engine.targets.litert.delivery import deliver_litert
from worker.engine.targets.support.base import Look
from worker.engine.targets.support.by_registry import by_toolchain


def litert_compatibility(targets: tuple[LiteRtTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown, else those of the file. Raises the toolchain's errors."""
    return by_toolchain("litert", deliver_litert, targets, look, "litert-torch {} registry of lowerings".format)
