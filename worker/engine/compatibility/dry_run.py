"""Targets whose converter keeps no list: the model is delivered as it is, and the result says what became of it."""

from collections.abc import Iterator
from typing import Any

from app.errors import PareError
from app.spec.compatibility import Compatibility
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
                source = f"{delivery.runtime.name}, a dry run of the conversion"
                for operator, count in delivery.runtime.placement().operators.items():
                    tally.add(operator, "supported", "", source, count)
        except ToolchainMissing:
            raise
        except PareError as error:
            refusal = f"{error.detail} {error.remedy}"
        yield table(target, tally, refusal)
