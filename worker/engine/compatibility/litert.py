"""LiteRT: litert-torch's registry of lowerings, and where all are known, a conversion that shows what XNNPACK takes."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import LiteRtTarget
from worker.engine.compatibility import Look, knows
from worker.engine.compatibility.dry_run import by_delivery
from worker.engine.compatibility.programs import by_registry
from worker.engine.targets.flat import save_flat
from worker.engine.toolchain import started


@knows(LiteRtTarget)
def litert(targets: tuple[LiteRtTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown, else those of the file. Raises the toolchain's errors."""
    if look.model.reference is None:
        yield from by_delivery(targets, look)  # which says that there is no program
        return
    with started("litert", look.directory, look.progress) as toolchain:
        save_flat(look.model.program, targets[0].batch, toolchain.folder / "program.pt2")
        found = toolchain.do("compatibility", program="program.pt2")
    registry = f"litert-torch {found['version']} registry of lowerings"
    yield from by_registry(targets, look, found["operators"], found["unknown"], registry)
