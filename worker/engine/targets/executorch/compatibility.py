"""ExecuTorch: its converter keeps no list, so a conversion shows what XNNPACK takes."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import ExecuTorchTarget
from worker.engine.targets.executorch.delivery import deliver_executorch
from worker.engine.targets.support.base import Look
from worker.engine.targets.support.dry_run import by_delivery


def executorch_compatibility(targets: tuple[ExecuTorchTarget, ...], look: Look) -> Iterator[Compatibility]:
    """Operators of the converted program. Raises the toolchain's errors."""
    return by_delivery(deliver_executorch, targets, look)
