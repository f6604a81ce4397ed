"""What a job's process wants measured is taken to agents, and whatever happens on the way is an answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.api.components import Components
from app.db import jobs
from app.db.tables import AgentTask
from app.ids import public
from app.services.agents import Enrolment, TokenRequest
from app.spec.agents import AgentFacts
from app.spec.job import JobSpec
from app.storage import Store
from tests.support.agent.measured import FACTS
from tests.support.agent.tasks import lay_out
from tests.support.installation.waiting import until
from tests.support.runtime.fixed_child import uploaded
from worker.engine.devices.agent_task import ANSWER, FOLDER, ORDER
from worker.runtime.agent_proxy import AgentProxy


class Interrupted:
    """A store at whose first file something happens."""

    def __init__(self, store: Store, happens: Callable[[], object]) -> None:
        self._store, self._happens = store, [happens]

    def put(self, *arguments: Any, **named: Any) -> None:
        while self._happens:
            self._happens.pop()()
        self._store.put(*arguments, **named)

    def delete(self, key: str) -> None:
        self._store.delete(key)


@pytest.fixture
def agent(parts: Components) -> str:
    """An enrolled agent's id."""
    token, _ = parts.agents.issue_token("t", TokenRequest(name="pi"))
    enrolled, _ = parts.agents.enrol(Enrolment(token=token, facts=AgentFacts.model_validate(FACTS)))
    return public("agt", enrolled.id)


def test_an_agent_that_is_revoked_while_its_files_are_stored_is_not_waited_for(
    parts: Components, agent: str, tmp_path: Path
) -> None:
    model = uploaded(parts, tmp_path, seed=0)
    evaluate = {"devices": [{"type": "agent", "agent": agent}]}
    job = parts.jobs.submit("t", JobSpec.model_validate({"model": model, "evaluate": evaluate}), key=None)
    with parts.database.read() as session:
        row = jobs.of(session, "t", job.id)
    folder = tmp_path / "job" / FOLDER / "0"
    folder.mkdir(parents=True)
    (folder / ORDER).write_text(json.dumps(lay_out(folder)))
    store = Interrupted(parts.store, lambda: parts.agents.revoke("t", agent))

    with AgentProxy(parts.database, store, parts.settings, row, tmp_path / "job", lambda: None) as proxy:
        proxy.ask(0, agent)
        until((folder / ANSWER).exists, "an answer", 10)

    assert json.loads((folder / ANSWER).read_text())["failure"]["code"] == "agent.revoked"
    with parts.database.read() as session:
        assert session.scalars(select(AgentTask)).all() == []
