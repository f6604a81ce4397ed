"""All SQL about device agents and the tokens that enrol them. Secrets are compared by digest alone."""

from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from app.db.tables import Agent, EnrolmentToken
from app.db.types import from_now

SEEN_SECONDS = 90.0
"""An agent not heard of for so long is not counted as present; a poll comes every 30 seconds, a heartbeat sooner."""


def of(session: Session, tenant: str, agent: UUID) -> Agent | None:
    """Fetch one agent of a tenant that was not revoked."""
    return session.scalar(page(tenant).where(Agent.id == agent))


def hold(session: Session, agent: UUID) -> bool:
    """Keep the agent from being revoked until the transaction ends; False if it was revoked already."""
    present = select(Agent.id).where(Agent.id == agent, Agent.revoked_at.is_(None))
    return session.scalar(present.with_for_update(read=True)) is not None


def page(tenant: str) -> Select[Agent]:
    """Select a tenant's agents; `app.db.pages` cuts the page."""
    return select(Agent).where(Agent.tenant == tenant, Agent.revoked_at.is_(None))


def by_credential(session: Session, sha256: str) -> Agent | None:
    """Fetch the agent whose credential has this digest, unless it was revoked."""
    return session.scalar(select(Agent).where(Agent.credential_sha256 == sha256, Agent.revoked_at.is_(None)))


def seen(session: Session, agent: UUID, facts: dict[str, Any] | None = None) -> None:
    """Note that an agent was heard of, and what it now says of itself."""
    changed = {} if facts is None else {"facts": facts}
    session.execute(update(Agent).where(Agent.id == agent).values(seen_at=from_now(), **changed))


def revoke(session: Session, tenant: str, agent: UUID) -> bool:
    """Void an agent's credential; False if there is no such agent."""
    gone = update(Agent).where(Agent.tenant == tenant, Agent.id == agent, Agent.revoked_at.is_(None))
    return session.scalar(gone.values(revoked_at=from_now()).returning(Agent.id)) is not None


def counts(session: Session) -> tuple[int, int]:
    """Count the agents that are enrolled, and of these the ones heard of lately."""
    lately = func.count().filter(Agent.seen_at > from_now(-SEEN_SECONDS))
    row = session.execute(select(func.count(), lately).where(Agent.revoked_at.is_(None))).one()
    return row[0], row[1]


def token(session: Session, sha256: str) -> EnrolmentToken | None:
    """Fetch the token with this digest, spent or not."""
    return session.scalar(select(EnrolmentToken).where(EnrolmentToken.token_sha256 == sha256))


def spend(session: Session, sha256: str, agent: UUID) -> EnrolmentToken | None:
    """Use a token up for an agent: of two that try, one succeeds. None if it is unknown, spent or expired."""
    spent = (
        update(EnrolmentToken)
        .where(
            EnrolmentToken.token_sha256 == sha256,
            EnrolmentToken.agent_id.is_(None),
            EnrolmentToken.expires_at > from_now(),
        )
        .values(agent_id=agent)
    )
    return session.scalar(spent.returning(EnrolmentToken))
