"""Device agents: enrolled by a person, then asking for work themselves."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from app.db import agent_tasks, agents, pages
from app.db.database import Database
from app.db.tables import Agent, AgentTaskFile, EnrolmentToken
from app.db.tables import AgentTask as TaskRow
from app.db.types import from_now
from app.ids import NotFound, new_id, parse, public
from app.services.agent_errors import (
    REPORTED,
    AgentRevoked,
    AgentUnauthorized,
    OutputsMissing,
    TaskGone,
    TokenRefused,
)
from app.services.library import Arrival
from app.settings import Settings
from app.spec.agents import OUTPUTS, AgentFacts, AgentFailure, AgentFile, AgentMeasurement, AgentOrder, AgentTask
from app.spec.base import Frozen, Labels, Name
from app.spec.failure import Failure
from app.storage import Store

SECRET_BYTES = 32
DAY = 24 * 3600


class TokenRequest(Frozen):
    """The body of `POST /agents/tokens`: what the device that uses the token will be called."""

    name: Name = "agent"
    labels: Labels = Field(default_factory=dict)
    ttl_s: int = Field(3600, ge=1, le=7 * DAY, description="The token is void after this.")


MOST_ATTEMPTS = 2**31 - 1
"""What a column of the database holds."""


class Enrolment(Frozen):
    """The body of `POST /agents/enrol`."""

    token: str = Field(min_length=1, max_length=200)
    facts: AgentFacts


class Outcome(Frozen):
    """The body of `POST /agents/self/tasks/{id}/result`: what was measured, or why not."""

    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)
    measurement: AgentMeasurement | None = None
    failure: AgentFailure | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.measurement is None) == (self.failure is None):
            raise ValueError("either `measurement` or `failure` is given")
        return self


class Agents:
    """Enrols and revokes agents, and hands them their work."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self._database, self._store = database, store
        self._lease_s, self._heartbeat_s = settings.lease_s, settings.heartbeat_s

    def issue_token(self, tenant: str, request: TokenRequest) -> tuple[str, datetime]:
        """Make a token that enrols one agent, and say until when; only its digest is kept."""
        secret = f"pare-enrol-{secrets.token_urlsafe(SECRET_BYTES)}"
        row = EnrolmentToken(
            id=new_id(),
            tenant=tenant,
            name=request.name,
            labels=dict(request.labels),
            token_sha256=digest(secret),
            expires_at=from_now(request.ttl_s),
        )
        with self._database.write() as session:
            session.add(row)
            session.flush()
            session.refresh(row)
        return secret, row.expires_at

    def enrol(self, enrolment: Enrolment) -> tuple[Agent, str]:
        """Turn a token into an agent and its credential, which is shown this once. Raises `TokenRefused`."""
        credential = f"pare-agent-{secrets.token_urlsafe(SECRET_BYTES)}"
        sha256 = digest(enrolment.token)
        with self._database.write() as session:
            token = agents.token(session, sha256)
            if token is None:
                raise TokenRefused("There is no such token.")
            agent = Agent(
                id=new_id(),
                tenant=token.tenant,
                name=token.name,
                labels=token.labels,
                facts=enrolment.facts.model_dump(mode="json"),
                credential_sha256=digest(credential),
            )
            session.add(agent)
            session.flush()
            if agents.spend(session, sha256, agent.id) is None:
                was = "has expired" if token.agent_id is None else "was used before"
                raise TokenRefused(f"The token {was}.")
        return agent, credential

    def authenticate(self, credential: str) -> Agent:
        """Find out who has this credential. Raises `AgentUnauthorized`."""
        with self._database.read() as session:
            agent = agents.by_credential(session, digest(credential))
        if agent is None:
            raise AgentUnauthorized("The credential belongs to no agent.")
        return agent

    def get(self, tenant: str, public_id: str) -> Agent:
        """Fetch an agent or raise `NotFound`."""
        with self._database.read() as session:
            return find(session, tenant, public_id)

    def page(
        self, tenant: str, *, limit: int, after: UUID | None, labels: Mapping[str, str]
    ) -> tuple[Sequence[Agent], bool]:
        """Fetch a page, newest first, and whether there is more."""
        with self._database.read() as session:
            return pages.cut(session, agents.page(tenant), Agent, limit=limit, after=after, labels=labels)

    def revoke(self, tenant: str, public_id: str) -> None:
        """Void an agent's credential and fail what it was to do. Raises `NotFound`."""
        with self._database.write() as session:
            agent = find(session, tenant, public_id)
            agents.revoke(session, tenant, agent.id)
            agent_tasks.fail_all(
                session, agent.id, error=Failure.of(AgentRevoked("The agent was revoked.")).model_dump()
            )

    def present(self, agent: Agent, facts: AgentFacts) -> None:
        """Note that an agent asks for work, and what it now says of itself."""
        with self._database.write() as session:
            agents.seen(session, agent.id, facts.model_dump(mode="json"))

    def take(self, agent: Agent) -> AgentTask | None:
        """Lease the agent's next task; None while there is none."""
        with self._database.read() as session:  # a look costs no lock: most find nothing
            waiting = agent_tasks.waiting(session, agent.id)
        if waiting is None:
            return None
        with self._database.write() as session:
            row = agent_tasks.claim(session, waiting, lease_s=self._lease_s)
            return None if row is None else self._shown(session, row)

    def heartbeat(self, agent: Agent, task_id: str, attempt: int) -> None:
        """Renew the lease. Raises `TaskGone`."""
        task = parse("tsk", task_id)
        with self._database.write() as session:
            agents.seen(session, agent.id)
            if not agent_tasks.renew_lease(session, agent.id, task, attempt, lease_s=self._lease_s):
                raise TaskGone(_GONE)

    def keep_outputs(self, agent: Agent, task_id: str, attempt: int, outputs: Arrival) -> None:
        """Store what the artifact computed there, for the job that waits. Raises `TaskGone`."""
        task = parse("tsk", task_id)
        key = f"agent-outputs/{task.hex}/{new_id().hex}"
        self._store.put(key, outputs.path, sha256=outputs.sha256, media_type="application/octet-stream")
        file = AgentTaskFile(task_id=task, role=OUTPUTS, sha256=outputs.sha256, bytes=outputs.bytes, key=key)
        with self._database.write() as session:
            replaced = agent_tasks.attach(session, agent.id, attempt, file)
        for gone in [key] if replaced is None else replaced:
            self._store.delete(gone)
        if replaced is None:
            raise TaskGone(_GONE)

    def finish(self, agent: Agent, task_id: str, outcome: Outcome) -> None:
        """Record what was measured, or why it was not, once. Raises `TaskGone`, `OutputsMissing`."""
        task, done = parse("tsk", task_id), False
        with self._database.write() as session:
            if outcome.measurement is not None:
                result = outcome.measurement.model_dump(mode="json")
                done = agent_tasks.finish(session, agent.id, task, outcome.attempt, result=result)
                if done and not _sent(session, task, outcome.measurement.outputs_sha256):
                    raise OutputsMissing(
                        "No outputs with this digest were sent.", pointer="/measurement/outputs_sha256"
                    )
            elif outcome.failure is not None:
                error = Failure.of(REPORTED[outcome.failure.code](outcome.failure.detail)).model_dump()
                done = agent_tasks.fail(session, agent.id, task, outcome.attempt, error=error)
        if not done:
            raise TaskGone(_GONE)

    def hand_back(self, agent: Agent, task_id: str, attempt: int) -> None:
        """Queue the task again, uncounted. Raises `TaskGone`."""
        task = parse("tsk", task_id)
        with self._database.write() as session:
            if not agent_tasks.hand_back(session, agent.id, task, attempt):
                raise TaskGone(_GONE)

    def file(self, agent: Agent, task_id: str, sha256: str) -> AgentTaskFile:
        """Find a file of a task that the agent has leased. Raises `NotFound`."""
        task = parse("tsk", task_id)
        with self._database.read() as session:
            file = agent_tasks.file_of(session, agent.id, task, sha256)
        if file is None:
            raise NotFound("The agent has leased no task with such a file.")
        return file

    def _shown(self, session: Session, row: TaskRow) -> AgentTask:
        files = tuple(
            AgentFile.model_validate({"role": file.role, "sha256": file.sha256, "bytes": file.bytes})
            for file in agent_tasks.files(session, row.id)
            if file.role != OUTPUTS
        )
        return AgentTask(
            id=public("tsk", row.id),
            attempt=row.attempt,
            lease_s=self._lease_s,
            heartbeat_s=self._heartbeat_s,
            order=AgentOrder.model_validate(row.payload),
            files=files,
        )


_GONE = "The task is not leased to this attempt."


def find(session: Session, tenant: str, public_id: str, *, pointer: str | None = None) -> Agent:
    """Fetch an agent of a tenant. Raises `NotFound`, also for one that was revoked."""
    agent = agents.of(session, tenant, parse("agt", public_id))
    if agent is None:
        raise NotFound("There is no such agent.", pointer=pointer)
    return agent


def digest(secret: str) -> str:
    """SHA-256 of a secret; those here are 256 random bits, which no dictionary holds."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _sent(session: Session, task: UUID, sha256: str) -> bool:
    return any(file.role == OUTPUTS and file.sha256 == sha256 for file in agent_tasks.files(session, task))
