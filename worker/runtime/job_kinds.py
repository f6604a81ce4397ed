"""The kinds of work: what each is told, and the function of the engine that does it."""

from dataclasses import dataclass

from app.spec.base import Frozen
from app.spec.compatibility import CompatibilityOrder
from app.spec.inspection import InspectionOrder
from app.spec.work import WorkKind, WorkOrder


@dataclass(frozen=True)
class Work:
    """`entry` is `module:function`, called with the order, the job's directory and its progress."""

    order: type[Frozen]
    entry: str


WORKS: dict[WorkKind, Work] = {
    "compress": Work(WorkOrder, "worker.engine.job:run"),
    "inspect": Work(InspectionOrder, "worker.engine.inspect:inspect"),
    "compatibility": Work(CompatibilityOrder, "worker.engine.compatibility:find_out"),
}
