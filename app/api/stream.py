"""A job's events as a stream that ends when the job does."""

import asyncio
from collections.abc import AsyncIterator

from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from app.api.resources import EventOut
from app.db.states import ENDED
from app.ids import NotFound
from app.services.jobs import Jobs

POLL_SECONDS = 0.5
SILENCE_SECONDS = 15.0
"""Proxies close connections that are silent for longer."""
BATCH = 200
RETRY_MS = 2000


async def stream(jobs: Jobs, tenant: str, job_id: str, *, after: int) -> AsyncIterator[bytes]:
    """Yield each event once, in order, as server-sent events whose id resumes the stream."""
    yield format_sse_event(retry=RETRY_MS)
    silent = 0.0
    while True:
        try:
            job, rows = await run_in_threadpool(jobs.events, tenant, job_id, after=after, limit=BATCH)
        except NotFound:
            return
        for row in rows:
            shown = EventOut.of(row)
            after = row.seq
            yield format_sse_event(data_str=shown.model_dump_json(), event=row.kind, id=str(row.seq))
        if job.state in ENDED and after >= job.events:
            return
        if len(rows) == BATCH:
            continue
        silent = 0.0 if rows else silent + POLL_SECONDS
        if silent >= SILENCE_SECONDS:
            silent = 0.0
            yield format_sse_event(comment="still here")
        await asyncio.sleep(POLL_SECONDS)
