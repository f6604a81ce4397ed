"""How the engine tells its caller where it is, and asks for what it may not do itself."""

from typing import Literal, Protocol

from app.spec.failure import TOOLCHAIN_MISSING
from app.spec.targets import ToolchainName
from worker.engine.errors import EngineError


class AgentsMissing(EngineError):
    """A device agent is to measure for something that runs without a service, which they belong to."""

    code = "agent.none"
    remedy = "Submit the job to a service that has the device among its agents."


class ToolchainMissing(EngineError):
    """A target is converted or run by a toolchain that is not installed on the worker."""

    code = TOOLCHAIN_MISSING
    remedy = "Install it on the worker: `python -m worker toolchains install NAME`; GET /targets lists what is missing."


LogLevel = Literal["info", "warning"]


class Progress(Protocol):
    """Receives the story of one job, in order. Calls are cheap: they may be made once per batch."""

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Begin stage number `step` (from 1) of `steps`; its fraction starts at 0."""

    def advance(self, fraction: float, message: str = "") -> None:
        """Say that `fraction` (0 to 1) of the present stage is done."""

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Add a line to the job's log."""

    def checkpoint(self, name: str) -> None:
        """Say that the file `name` in the job's folder of checkpoints is complete, or was dropped."""

    def start_toolchain(self, number: int, name: ToolchainName) -> None:
        """Ask for a process of a toolchain in folder `number`; see `worker.engine.toolchains.process`."""

    def ask_agent(self, number: int, agent: str) -> None:
        """Ask a device agent to do the task in folder `number`; see `worker.engine.devices.agent_task`."""


class Unheard:
    """A progress nobody listens to."""

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Ignore it."""

    def advance(self, fraction: float, message: str = "") -> None:
        """Ignore it."""

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Ignore it."""

    def checkpoint(self, name: str) -> None:
        """Ignore it."""

    def start_toolchain(self, _number: int, name: ToolchainName) -> None:
        """Refuse: whoever has toolchains listens."""
        raise ToolchainMissing(f"The toolchain {name} is not at hand here.")

    def ask_agent(self, _number: int, _agent: str) -> None:
        """Refuse: whoever has agents listens."""
        raise AgentsMissing("There are no agents here.")
