"""LiteRT: litert-torch's registry of lowerings, and where all are known, a conversion that shows what XNNPACK takes."""

from collections.abc import Iterator

from app.spec.compatibility import Compatibility
from app.spec.targets import LiteRtTarget
from worker.engine.compatibility import Look, Tally, knows, table
from worker.engine.compatibility.dry_run import by_delivery
from worker.engine.targets.flat import save_flat
from worker.engine.toolchain import started


@knows(LiteRtTarget)
def litert(targets: tuple[LiteRtTarget, ...], look: Look) -> Iterator[Compatibility]:
    """PyTorch's operators if some are unknown, else those of the file. Raises the toolchain's errors."""
    if look.model.reference is not None:
        with started("litert", look.directory, look.progress) as toolchain:
            save_flat(look.model.program, targets[0].batch, toolchain.folder / "program.pt2")
            found = toolchain.do("compatibility", program="program.pt2")
        if unknown := found["unknown"]:
            tally, source = Tally(), f"litert-torch {found['version']} registry of lowerings"
            for operator, count in found["operators"].items():
                missing = operator in unknown
                why = "litert-torch has no lowering of it." if missing else ""
                tally.add(operator, "unsupported" if missing else "supported", why, source, count)
            refusal = f"litert-torch has no lowering of {', '.join(unknown)}."
            yield from (table(target, tally, refusal) for target in targets)
            return
    yield from by_delivery(targets, look)
