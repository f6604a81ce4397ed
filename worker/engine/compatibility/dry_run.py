"""Targets whose converter keeps no list: the model is delivered as it is, and the result says what became of it."""

from collections.abc import Iterator
from typing import Any

from app.errors import PareError
from app.spec.compatibility import Compatibility
from app.spec.report import Placement
from app.spec.targets import AnyTarget
from worker.engine.compatibility import Look, Tally, table
from worker.engine.errors import ToolchainMissing
from worker.engine.targets import Origin, Site, deliver

ORIGIN = Origin("compatibility", "0" * 64, "0" * 64)


def by_delivery(targets: tuple[Any, ...], look: Look) -> Iterator[Compatibility]:
    """Operators of the delivered graph, all of them run; or the converter's refusal. Raises `ToolchainMissing`."""
    for target in targets:
        out = look.scratch / "dry-run"
        out.mkdir(exist_ok=True)
        site = Site(
            original=look.model, origin=ORIGIN, directory=look.directory, out=out, scratch=look.scratch,
            threads=look.threads, progress=look.progress,
        )  # fmt: skip
        tally, refusal = Tally(), None
        try:
            with deliver(target, look.model, site) as delivery:
                count_placed(tally, delivery.runtime.placement(), f"{delivery.runtime.name}, dry run of the conversion")
        except ToolchainMissing:
            raise
        except PareError as error:
            refusal = f"{error.detail} {error.remedy}"
        yield table(target, tally, refusal, _notes(target))


def count_placed(tally: Tally, placed: Placement, source: str) -> None:
    """Operators of a delivered graph, as its runtime placed them."""
    for operator, count in placed.operators.items():
        left = min((placed.fallback or {}).get(operator, 0), count)
        if left:
            tally.add(operator, "falls back", "It is left to kernels of the runtime that are slower.", source, left)
        if count > left:
            tally.add(operator, "supported", "", source, count - left)


def _notes(target: AnyTarget) -> tuple[str, ...]:
    if target.supports("quantize.static"):
        return ()
    return (f"No operator is quantizable: {target.label} delivers no plan of quantize.static.",)
