"""What a device agent is told and answers; the `pare_agent` package speaks the same without these classes."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.spec.base import Frozen, Sha256
from app.spec.targets.base import AgentRuntime

AgentId = Annotated[str, StringConstraints(pattern=r"^agt_[0-9a-f]{32}$")]
"""An enrolled device agent."""
Words = Annotated[str, StringConstraints(max_length=200)]

MOST_RUNS = 10_000
FailureCode = Literal["agent.failed", "agent.out_of_memory", "agent.timed_out", "agent.file_refused"]


class AgentFacts(Frozen):
    """What a device says of itself, at each poll."""

    cpu: Words = Field(description="The board's or the processor's own name.")
    arch: Words = Field(description="As `uname -m` spells it.")
    cpu_flags: tuple[Words, ...] = Field((), max_length=300, description="Instruction sets, as Linux spells them.")
    cores: int = Field(ge=1, le=4096)
    memory_bytes: int = Field(ge=0, lt=2**53)
    system: Words
    runtimes: dict[AgentRuntime, Words] = Field(description="The runtimes that are installed, with their versions.")
    python: Words
    version: Words = Field(description="Of the agent itself.")


class Timing(Frozen):
    """How the artifact is timed: it and the original in one process, taking turns."""

    batch: int = Field(ge=1, le=4096)
    threads: int = Field(ge=1, le=256)
    runs: int = Field(ge=1, le=MOST_RUNS)
    budget_s: float = Field(gt=0, le=600)


class AgentOrder(Frozen):
    """What an agent does with its files: run `artifact` on each batch of `rows`, then time it against `baseline`.

    `rows` is an `.npz` with arrays named `<batch>/<input>`, batches counted from 0, and the timed ones `timed/<input>`.
    """

    runtime: AgentRuntime
    timing: Timing
    seed: int = Field(ge=0, lt=2**32)
    deadline_s: float = Field(gt=0, le=24 * 3600, description="The device gives up after this.")


Role = Literal["artifact", "baseline", "rows"]
"""`baseline` is the original, as the same runtime loads it."""
OUTPUTS = "outputs"
"""The file that an agent sends back: an `.npz` with arrays named `<batch>/<output>`."""
MOST_OUTPUT_BYTES = 256 << 20


class AgentFile(Frozen):
    """A file that belongs to a task, fetched by its digest."""

    role: Role
    sha256: Sha256
    bytes: int = Field(ge=0)


class AgentTask(Frozen):
    """What a poll answers: the lease on one piece of work. `attempt` goes with everything that is said about it."""

    id: str = Field(examples=["tsk_0198f2a31c7b7d0c8f5e2b7a9c1d3e4f"])
    attempt: int
    lease_s: float = Field(description="The task is somebody else's this long after the last heartbeat.")
    heartbeat_s: float
    order: AgentOrder
    files: tuple[AgentFile, ...]


class Condition(Frozen):
    """The state of the device while it was timed; None where it has no such sensor."""

    temperature_c: float | None = Field(None, ge=-100, le=300, description="The highest, of the hottest sensor.")
    throttled: bool | None = Field(None, description="Whether heat or supply held the clock down meanwhile.")
    power_w: float | None = Field(None, ge=0, le=10_000, description="Mean draw of the board.")
    frequency_mhz: float | None = Field(None, ge=0, le=100_000, description="Mean clock of the fastest core.")
    governor: Words | None = None


class AgentMeasurement(Frozen):
    """What an agent measured of one artifact."""

    runtime: Words = Field(description="With its version.")
    facts: AgentFacts
    outputs_sha256: Sha256 = Field(description="Of the file of outputs, which was sent before.")
    load_ms: float = Field(ge=0)
    peak_memory_bytes: int = Field(
        ge=0, lt=2**53, description="Of the process with the artifact alone, runtime included."
    )
    before_ns: tuple[int, ...] = Field(min_length=1, max_length=MOST_RUNS, description="Of the original, run by run.")
    after_ns: tuple[int, ...] = Field(min_length=1, max_length=MOST_RUNS, description="Of the artifact, likewise.")
    batch: int = Field(ge=1, le=4096)
    threads: int = Field(ge=1, le=256)
    condition: Condition = Condition()
    notes: tuple[Annotated[str, StringConstraints(max_length=500)], ...] = Field((), max_length=20)


class AgentFailure(Frozen):
    """Why the device could not do it."""

    code: FailureCode
    detail: str = Field(max_length=1000)
