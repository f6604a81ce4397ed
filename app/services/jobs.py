"""A person's view of jobs: submit, look, cancel, try again."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events, jobs, pages
from app.db.database import Database
from app.db.events import Kind
from app.db.states import ENDED
from app.db.tables import Artifact, Event, Job, JobState
from app.ids import NotFound, parse
from app.services.errors import JobEnded, JobNotEnded
from app.services.submission import Accepted, check, no_worker, submit
from app.spec.job import JobSpec
from app.spec.report import Report


class Jobs:
    """Submits and shows jobs; `wake` tells the dispatcher that there is something to publish."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake

    def validate(self, tenant: str, spec: JobSpec) -> tuple[Accepted, str | None]:
        """Check a job without queueing it; the second value says when no live worker would take it."""
        with self._database.read() as session:
            accepted = check(session, tenant, spec)
            return accepted, no_worker(session, accepted.queue)

    def submit(self, tenant: str, spec: JobSpec, *, key: str | None) -> Job:
        """Queue a job; the same idempotency key and body give the same job.

        Raises what `submission.submit` raises.
        """
        job = submit(self._database, tenant, spec, key)
        self._wake()
        return job

    def get(self, tenant: str, public_id: str) -> Job:
        """Fetch a job or raise `NotFound`."""
        with self._database.read() as session:
            return _find(session, tenant, public_id)

    def page(
        self, tenant: str, *, limit: int, after: UUID | None, labels: Mapping[str, str], status: JobState | None
    ) -> tuple[Sequence[Job], bool]:
        """Fetch a page, newest first, and whether there is more."""
        with self._database.read() as session:
            return pages.cut(session, jobs.page(tenant, status=status), Job, limit=limit, after=after, labels=labels)

    def stage_of(self, shown: Sequence[Job]) -> dict[UUID, str]:
        """Say where each job stands; a queued one also tells when nobody serves its queue."""
        waiting = {job.queue for job in shown if job.state == "queued"}
        with self._database.read() as session:
            nobody = {queue: no_worker(session, queue) for queue in waiting}
        return {job.id: (nobody[job.queue] if job.state == "queued" else None) or job.stage for job in shown}

    def cancel(self, tenant: str, public_id: str) -> Job:
        """Cancel a job: at once if it waits, else its worker is asked to stop; raises `JobEnded`."""
        with self._database.write() as session:
            job = _find(session, tenant, public_id)
            if not jobs.request_cancel(session, job.id):
                session.refresh(job)
                if job.state in ENDED:
                    raise JobEnded(f"The job has already {_ended(job.state)}.")
            session.refresh(job)
            return job

    def retry(self, tenant: str, public_id: str) -> Job:
        """Queue a failed or canceled job again, with all its attempts; raises `JobNotEnded`."""
        with self._database.write() as session:
            job = _find(session, tenant, public_id)
            check(session, tenant, JobSpec.model_validate(job.spec))  # its model or data may be gone by now
            if not jobs.retry(session, job.id):
                session.refresh(job)
                again = "Submit its spec as a new job to run it again." if job.state == "succeeded" else None
                detail = f"Only a failed or canceled job can be retried; this one is {job.state}."
                raise JobNotEnded(detail, remedy=again)
            session.refresh(job)
        self._wake()
        return job

    def events(
        self, tenant: str, public_id: str, *, after: int, limit: int, kind: Kind | None = None
    ) -> tuple[Job, Sequence[Event]]:
        """Fetch the events after a number, and the job as it was before them."""
        with self._database.read() as session:
            job = _find(session, tenant, public_id)
            return job, events.after(session, job.id, after, limit=limit, kind=kind)

    def report(self, tenant: str, public_id: str) -> Report:
        """Fetch the report; raises `JobNotEnded` while there is none."""
        job = self.get(tenant, public_id)
        if job.report is None:
            reason = "ended without one" if job.state in ENDED else f"is {job.state}"
            raise JobNotEnded(f"There is no report: the job {reason}.")
        return Report.model_validate(job.report)

    def artifacts(self, tenant: str, public_id: str) -> Sequence[Artifact]:
        """Fetch what the job delivered; nothing while it is at work."""
        with self._database.read() as session:
            return jobs.artifacts_of(session, _find(session, tenant, public_id))

    def artifact(self, tenant: str, public_id: str) -> Artifact:
        """Fetch one delivered file or raise `NotFound`."""
        with self._database.read() as session:
            artifact = jobs.artifact(session, tenant, parse("art", public_id))
        if artifact is None:
            raise NotFound("There is no such artifact.")
        return artifact


def _find(session: Session, tenant: str, public_id: str) -> Job:
    job = jobs.of(session, tenant, parse("job", public_id))
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _ended(state: JobState) -> str:
    return "been canceled" if state == "canceled" else state
