"""The kinds of work that a job of the queue may be, one row each: what a new kind needs is said here and nowhere else.

The rows are the parent's: a child is told in its request which function to call and which class reads its order, so
that the process that runs uploaded models loads neither the database's library nor this table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.db.database import Database
from app.db.tables import Job
from app.settings import Settings
from app.spec.compatibility import Compatibilities, CompatibilityOrder
from app.spec.inspection import Inspection, InspectionOrder
from app.spec.work import WorkKind, WorkOrder, WorkResult
from app.storage import Store
from worker.runtime import prepare
from worker.runtime.prepare import Order

Result = WorkResult | Inspection | Compatibilities
"""All are kept in the job's row, a `WorkResult` by its report; it alone has artifacts."""


@dataclass(frozen=True)
class JobKind:
    """What a kind of job is made of, runs, and answers."""

    prepare: Callable[[Database, Store, Settings, Job, Path], Order]
    """Fetches the job's files into a directory and makes its order. Raises storage errors."""
    order: type[Order]
    entry: str
    """`module:function` of the engine, called with the order, the job's directory and its progress."""
    result: type[Result]
    max_result_bytes: int
    timeout_s: Callable[[Any], int]
    """Seconds that the child may take, by its order."""


JOB_KINDS: Final[dict[WorkKind, JobKind]] = {
    "compress": JobKind(
        prepare=prepare.compression,
        order=WorkOrder,
        entry="worker.engine.job:run",
        result=WorkResult,
        max_result_bytes=16 << 20,
        timeout_s=lambda order: order.spec.timeout_s,
    ),
    "inspect": JobKind(
        prepare=prepare.inspection,
        order=InspectionOrder,
        entry="worker.engine.inspect:inspect",
        result=Inspection,
        max_result_bytes=2 << 20,  # 2000 groups of channels take 400 KiB
        timeout_s=lambda _: 120,  # looking at a model takes seconds and may not hold a worker for long
    ),
    "compatibility": JobKind(
        prepare=prepare.compatibility,
        order=CompatibilityOrder,
        entry="worker.engine.compatibility:find_out",
        result=Compatibilities,
        max_result_bytes=2 << 20,
        timeout_s=lambda _: 600,  # a dry run of a converter takes minutes
    ),
}
