"""Jobs: submit, watch, cancel, retry, and read what came out."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.accept import preferred
from app.api.compatibility import CompatibilityOut
from app.api.deps import Jobs, LabelQuery, Page, RequestCaller, Services
from app.api.errors import NotAcceptable, RequestInvalid
from app.api.openapi import EVENT_STREAM, JOB_EXAMPLE, REPORT_FORMS
from app.api.problems import problems
from app.api.resources import ArtifactOut, EventOut, EventsOut, JobOut, PageOut, ValidationOut
from app.api.stream import stream
from app.db.states import ENDED
from app.db.tables import Job, JobState
from app.ids import NotFound
from app.report import render_html, render_markdown
from app.services.errors import (
    ArtifactUnfit,
    DataMismatch,
    IdempotencyMismatch,
    JobEnded,
    JobNotEnded,
    LabelsOutOfRange,
    MetricNotMeasurable,
    NeedsData,
    NoBatchAxis,
    SplitUnknown,
    StepNotApplicable,
)
from app.services.jobs import Jobs as JobService
from app.spec.job import JobSpec
from app.spec.report import Report

router = APIRouter(prefix="/jobs", tags=["jobs"])

Spec = Annotated[JobSpec, Body(examples=[JOB_EXAMPLE])]
REFUSALS = (
    NotFound,
    ArtifactUnfit,
    DataMismatch,
    LabelsOutOfRange,
    MetricNotMeasurable,
    NeedsData,
    NoBatchAxis,
    SplitUnknown,
    StepNotApplicable,
    RequestInvalid,
)
EVENTS_PER_PAGE = 500
LOG_LINES = 10_000
POLL_SECONDS = "2"
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; sandbox"
)


@router.post(
    "",
    status_code=202,
    operation_id="submitJob",
    summary="Submit a job",
    responses=problems(*REFUSALS, IdempotencyMismatch),
)
def submit_job(
    response: Response,
    jobs: Jobs,
    caller: RequestCaller,
    spec: Spec,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] = None,
) -> JobOut:
    """Submit a job. With an Idempotency-Key the request can be repeated: the same key and body give the same job."""
    shown = _show(jobs, jobs.submit(caller.tenant, spec, key=idempotency_key))
    response.headers["Location"] = f"/jobs/{shown.id}"
    response.headers["Retry-After"] = POLL_SECONDS
    return shown


@router.post("/validate", operation_id="validateJob", summary="Validate a job", responses=problems(*REFUSALS))
def validate_job(services: Services, jobs: Jobs, caller: RequestCaller, spec: Spec) -> ValidationOut:
    """Check a job without queueing it: the same answers `POST /jobs` would give, and what each target runs of it."""
    accepted, nobody = jobs.validate(caller.tenant, spec)
    targets = () if spec.artifacts else spec.targets  # artifacts are delivered already
    return ValidationOut(
        queue=accepted.queue,
        warnings=[*accepted.warnings, *([nobody] if nobody else [])],
        compatibility=[
            CompatibilityOut.of(known) for known in services.compatibility.of(caller.tenant, spec.model, targets)
        ],
    )


@router.get("", operation_id="listJobs", summary="List jobs", responses=problems(RequestInvalid))
def list_jobs(
    jobs: Jobs,
    caller: RequestCaller,
    wanted: Page,
    labels: LabelQuery,
    status: Annotated[JobState | None, Query()] = None,
) -> PageOut[JobOut]:
    """List jobs, newest first."""
    rows, more = jobs.page(caller.tenant, limit=wanted.limit, after=wanted.cursor("job"), labels=labels, status=status)
    stages, now = jobs.stage_of(rows), datetime.now(UTC)
    return PageOut.of([JobOut.of(row, stages[row.id], now) for row in rows], more=more)


@router.get("/{job_id}", operation_id="getJob", summary="Get a job", responses=problems(NotFound))
def get_job(response: Response, jobs: Jobs, caller: RequestCaller, job_id: str) -> JobOut:
    """Look at a job. While it is not finished, `Retry-After` says when to look again."""
    row = jobs.get(caller.tenant, job_id)
    if row.state not in ENDED:
        response.headers["Retry-After"] = POLL_SECONDS
    return _show(jobs, row)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    operation_id="cancelJob",
    summary="Cancel a job",
    responses=problems(NotFound, JobEnded),
)
def cancel_job(jobs: Jobs, caller: RequestCaller, job_id: str) -> JobOut:
    """Cancel a job: at once if it waits, within seconds if it runs. Canceling twice is no error."""
    return _show(jobs, jobs.cancel(caller.tenant, job_id))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    operation_id="retryJob",
    summary="Retry a job",
    responses=problems(*REFUSALS, JobNotEnded),
)
def retry_job(jobs: Jobs, caller: RequestCaller, job_id: str) -> JobOut:
    """Run a failed or canceled job again."""
    return _show(jobs, jobs.retry(caller.tenant, job_id))


@router.get(
    "/{job_id}/events",
    operation_id="listJobEvents",
    summary="List a job's events",
    response_model=EventsOut,
    responses=EVENT_STREAM | problems(NotFound),
)
async def list_job_events(
    request: Request,
    services: Services,
    caller: RequestCaller,
    job_id: str,
    after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=EVENTS_PER_PAGE)] = 100,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**62)] = None,
) -> Response:
    """Read what happened: a page as JSON, or with `Accept: text/event-stream` a stream that ends with the job.

    A stream resumes behind `Last-Event-ID` (or `?after=`).
    """
    wanted = preferred(request, ("application/json", "text/event-stream"))
    if wanted == "text/event-stream":
        await run_in_threadpool(services.jobs.get, caller.tenant, job_id)  # a 404 before the stream begins
        start = after if last_event_id is None else last_event_id
        feed = stream(services.jobs, caller.tenant, job_id, after=start)
        return StreamingResponse(
            feed, media_type=wanted, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
    job, rows = await run_in_threadpool(services.jobs.events, caller.tenant, job_id, after=after, limit=limit)
    last = rows[-1].seq if rows else after
    shown = EventsOut(
        data=[EventOut.of(row) for row in rows], next=last, ended=job.state in ENDED and last >= job.events
    )
    return JSONResponse(shown.model_dump(mode="json"))


@router.get(
    "/{job_id}/logs",
    operation_id="getJobLog",
    summary="Get a job's log",
    response_class=PlainTextResponse,
    responses=problems(NotFound),
)
def get_job_log(jobs: Jobs, caller: RequestCaller, job_id: str) -> PlainTextResponse:
    """Read the job's log as text, one line per message."""
    _, rows = jobs.events(caller.tenant, job_id, after=0, limit=LOG_LINES, kind="log")
    lines = (f"{row.at:%Y-%m-%dT%H:%M:%S.%f} {row.data['level']} {row.data['message']}\n" for row in rows)
    return PlainTextResponse("".join(lines))


@router.get(
    "/{job_id}/report",
    operation_id="getJobReport",
    summary="Get a job's report",
    response_model=Report,
    responses=REPORT_FORMS | problems(NotFound, JobNotEnded, NotAcceptable),
)
def get_job_report(request: Request, jobs: Jobs, caller: RequestCaller, job_id: str) -> Response:
    """Read the report as JSON, as one self-contained HTML page, or as Markdown, by `Accept`."""
    wanted = preferred(request, ("application/json", "text/html", "text/markdown"))
    report = jobs.report(caller.tenant, job_id)
    if wanted == "text/html":
        return HTMLResponse(render_html(report), headers={"Content-Security-Policy": REPORT_POLICY})
    if wanted == "text/markdown":
        return PlainTextResponse(render_markdown(report), media_type="text/markdown")
    return JSONResponse(report.model_dump(mode="json"))


@router.get(
    "/{job_id}/artifacts",
    operation_id="listJobArtifacts",
    summary="List a job's artifacts",
    responses=problems(NotFound),
)
def list_job_artifacts(jobs: Jobs, caller: RequestCaller, job_id: str) -> list[ArtifactOut]:
    """List what the job delivered; nothing while it is at work."""
    return [ArtifactOut.of(row) for row in jobs.artifacts(caller.tenant, job_id)]


def _show(jobs: JobService, row: Job) -> JobOut:
    return JobOut.of(row, jobs.stage_of([row])[row.id], datetime.now(UTC))
