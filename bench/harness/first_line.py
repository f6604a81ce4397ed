"""The job of a child that says one line."""

from pathlib import Path

from app.spec.work import WorkOrder, WorkResult
from tests.support.runtime.orders import result
from worker.engine.progress import Progress


def say(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:  # noqa: ARG001  # the form of a job
    progress.log("here")
    return result(order)
