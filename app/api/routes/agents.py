"""Device agents: enrol, look, revoke; and what an agent itself asks with its credential."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from app.api.agent_auth import Me
from app.api.bodies import arrival
from app.api.content import StoredFile, content
from app.api.deps import Agents, LabelQuery, Page, RequestCaller, Services
from app.api.errors import BodyTimeout, BodyTooLarge, RequestInvalid, UnsupportedMediaType
from app.api.openapi import BINARY_ANSWER, BINARY_BODY
from app.api.problems import problems
from app.api.resources import AgentOut, EnrolledOut, PageOut, TokenOut
from app.ids import NotFound
from app.services.agent_errors import AgentUnauthorized, OutputsMissing, TaskGone, TokenRefused
from app.services.agents import MOST_ATTEMPTS, Enrolment, Outcome, TokenRequest
from app.spec.agents import MOST_OUTPUT_BYTES, AgentFacts, AgentTask

router = APIRouter(prefix="/agents", tags=["agents"])

LONGEST_POLL_S = 30.0
"""Proxies cut requests that are silent for a minute."""
LOOK_S = 0.5
NOTHING: dict[int | str, dict[str, Any]] = {204: {"description": "There is nothing to do; poll again."}}


class PollIn(BaseModel):
    """The body of a poll."""

    model_config = ConfigDict(extra="forbid")

    facts: AgentFacts
    wait_s: float = Field(LONGEST_POLL_S, ge=0, le=LONGEST_POLL_S, description="How long to wait for a task.")


class AttemptIn(BaseModel):
    """Which attempt at a task speaks."""

    model_config = ConfigDict(extra="forbid")

    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)


@router.post(
    "/tokens",
    status_code=201,
    operation_id="makeEnrolmentToken",
    summary="Make an enrolment token",
    responses=problems(RequestInvalid),
)
def make_enrolment_token(response: Response, agents: Agents, caller: RequestCaller, body: TokenRequest) -> TokenOut:
    """Make a token that enrols one agent, once. It is shown in this answer only."""
    token, expires_at = agents.issue_token(caller.tenant, body)
    response.headers["Cache-Control"] = "no-store"
    return TokenOut(token=token, expires_at=expires_at)


@router.post(
    "/enrol",
    status_code=201,
    operation_id="enrolAgent",
    summary="Enrol an agent",
    responses=problems(TokenRefused, RequestInvalid, BodyTooLarge),
)
def enrol_agent(response: Response, agents: Agents, body: Enrolment) -> EnrolledOut:
    """Use a token up. The answer is the only one that holds the agent's credential."""
    row, credential = agents.enrol(body)
    shown = AgentOut.of(row)
    response.headers["Location"] = f"/agents/{shown.id}"
    response.headers["Cache-Control"] = "no-store"
    return EnrolledOut(**shown.model_dump(), credential=credential)


@router.get("", operation_id="listAgents", summary="List agents", responses=problems(RequestInvalid))
def list_agents(agents: Agents, caller: RequestCaller, wanted: Page, labels: LabelQuery) -> PageOut[AgentOut]:
    """List the enrolled agents, newest first."""
    rows, more = agents.page(caller.tenant, limit=wanted.limit, after=wanted.cursor("agt"), labels=labels)
    return PageOut.of([AgentOut.of(row) for row in rows], more=more)


@router.post(
    "/self/poll",
    operation_id="pollForTask",
    summary="Poll for a task",
    response_model=AgentTask,
    responses=NOTHING | problems(AgentUnauthorized, RequestInvalid, BodyTooLarge),
)
async def poll_for_task(request: Request, agents: Agents, me: Me, body: PollIn) -> AgentTask | Response:
    """Wait for something to measure, as an agent. A task comes with a lease that heartbeats renew."""
    await run_in_threadpool(agents.present, me, body.facts)
    until = time.monotonic() + body.wait_s
    while not await request.is_disconnected():
        task = await run_in_threadpool(agents.take, me)
        if task is not None:
            return task
        if time.monotonic() + LOOK_S > until:
            break
        await asyncio.sleep(LOOK_S)
    return Response(status_code=204)


@router.post(
    "/self/tasks/{task_id}/heartbeat",
    status_code=204,
    operation_id="renewLease",
    summary="Renew a task's lease",
    responses=problems(AgentUnauthorized, NotFound, TaskGone, RequestInvalid),
)
def renew_lease(agents: Agents, me: Me, task_id: str, body: AttemptIn) -> None:
    """Renew a lease, as an agent; 409: stop, the task is no longer this attempt's."""
    agents.heartbeat(me, task_id, body.attempt)


@router.put(
    "/self/tasks/{task_id}/outputs",
    status_code=204,
    operation_id="sendOutputs",
    summary="Send a task's outputs",
    openapi_extra=BINARY_BODY,
    responses=problems(
        AgentUnauthorized, NotFound, TaskGone, BodyTooLarge, BodyTimeout, UnsupportedMediaType, RequestInvalid
    ),
)
async def send_outputs(
    request: Request, services: Services, me: Me, task_id: str, attempt: Annotated[int, Query(ge=1, le=MOST_ATTEMPTS)]
) -> None:
    """Send what the artifact computed, as an agent, before the result that names its digest."""
    async with arrival(request, services.settings, name="outputs", labels={}, limit=MOST_OUTPUT_BYTES) as outputs:
        await run_in_threadpool(services.agents.keep_outputs, me, task_id, attempt, outputs)


@router.post(
    "/self/tasks/{task_id}/result",
    status_code=204,
    operation_id="reportResult",
    summary="Report a task's result",
    responses=problems(AgentUnauthorized, NotFound, TaskGone, OutputsMissing, RequestInvalid, BodyTooLarge),
)
def report_result(agents: Agents, me: Me, task_id: str, body: Outcome) -> None:
    """Report what was measured, or why it was not, as an agent."""
    agents.finish(me, task_id, body)


@router.post(
    "/self/tasks/{task_id}/hand-back",
    status_code=204,
    operation_id="handTaskBack",
    summary="Hand a task back",
    responses=problems(AgentUnauthorized, NotFound, TaskGone, RequestInvalid),
)
def hand_task_back(agents: Agents, me: Me, task_id: str, body: AttemptIn) -> None:
    """Give a task back untouched, as an agent that shuts down; the attempt does not count."""
    agents.hand_back(me, task_id, body.attempt)


@router.get(
    "/self/tasks/{task_id}/files/{sha256}",
    response_class=Response,
    operation_id="downloadTaskFile",
    summary="Download a task's file",
    responses=BINARY_ANSWER | problems(AgentUnauthorized, NotFound),
)
def download_task_file(
    request: Request, services: Services, me: Me, task_id: str, sha256: Annotated[str, Path(max_length=64)]
) -> Response:
    """Download a file of a leased task, as its agent; ranges are honoured."""
    row = services.agents.file(me, task_id, sha256)
    return content(request, services.store, services.settings, StoredFile(row.key, row.sha256, row.bytes, row.role))


@router.get("/{agent_id}", operation_id="getAgent", summary="Get an agent", responses=problems(NotFound))
def get_agent(agents: Agents, caller: RequestCaller, agent_id: str) -> AgentOut:
    """Look at an agent: what it runs on, and when it was last heard of."""
    return AgentOut.of(agents.get(caller.tenant, agent_id))


@router.delete(
    "/{agent_id}", status_code=204, operation_id="revokeAgent", summary="Revoke an agent", responses=problems(NotFound)
)
def revoke_agent(agents: Agents, caller: RequestCaller, agent_id: str) -> None:
    """Revoke an agent: its credential is void at once, and jobs that wait for it go on without it."""
    agents.revoke(caller.tenant, agent_id)
