"""A device that runs an agent of ours."""

from typing import ClassVar, Literal

from pydantic import Field

from app.spec.agents import AgentId
from app.spec.devices.base import AnyDevice, Provenance

SHOWN_DIGITS = 6
"""The last ones of an id differ from agent to agent; the first ones are a time."""


class AgentDevice(AnyDevice):
    """An enrolled device (`GET /agents`): it runs the artifact itself, and times it in turns with the original.

    Latency, load time, peak memory, temperature, throttling and power are the device's own; accuracy and agreement are
    judged from the outputs that it sends back. It needs a runtime for the target's format.
    """

    provenance: ClassVar[Provenance] = "measured"

    type: Literal["agent"] = "agent"
    agent: AgentId
    threads: int | None = Field(
        None, ge=1, le=256, description="Left out: `evaluate.latency.threads`. No more than the device has cores."
    )

    @property
    def label(self) -> str:
        return f"agent/{self.agent}" if self.threads is None else f"agent/{self.agent}/{self.threads}"

    @property
    def title(self) -> str:
        return f"Agent …{self.agent[-SHOWN_DIGITS:]}"
