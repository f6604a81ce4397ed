"""The agents that a job names: known, and able to run what it delivers."""

from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.services.agent_errors import AgentUnfit
from app.services.agents import find
from app.spec.agents import AgentFacts
from app.spec.devices import AgentDevice
from app.spec.job import JobSpec


def check_devices(session: Session, tenant: str, spec: JobSpec) -> Iterator[str]:
    """Require that every agent exists and has a runtime for some target; yields what it will have no figures for.

    Raises `NotFound`, `AgentUnfit`.
    """
    for position, device in enumerate(spec.evaluate.devices):
        if not isinstance(device, AgentDevice):
            continue
        pointer = f"/evaluate/devices/{position}"
        agent = find(session, tenant, device.agent, pointer=pointer)
        runtimes = AgentFacts.model_validate(agent.facts).runtimes
        name = f"Agent {agent.name}"
        unfit = [target.label for target in spec.targets if target.agent_runtime not in runtimes]
        if len(unfit) == len(spec.targets):
            has = ", ".join(sorted(runtimes)) or "none"
            raise AgentUnfit(f"{name} runs none of {', '.join(unfit)}; its runtimes: {has}.", pointer=pointer)
        if unfit:
            yield f"{name} has no runtime for {', '.join(unfit)}: there will be no figures."
