"""Who an agent is: the one caller that has a credential of its own."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.deps import Agents
from app.db.tables import Agent
from app.services.agent_errors import AgentUnauthorized

LONGEST_CREDENTIAL = 200
bearer = HTTPBearer(auto_error=False, scheme_name="agent", description="The credential that enrolling answered.")


def _me(agents: Agents, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Agent:
    if given is None or len(given.credentials) > LONGEST_CREDENTIAL:
        raise AgentUnauthorized("The request carries no agent's credential.")
    return agents.authenticate(given.credentials)


Me = Annotated[Agent, Depends(_me)]
