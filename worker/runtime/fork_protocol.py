"""What the parent asks of the zygote, and what the zygote answers on a job's lifeline."""

from typing import Literal

from app.spec.base import Frozen
from app.spec.work import WorkKind
from worker.runtime.jail.limits import Limits
from worker.runtime.jail.trial import Trial

MAX_REQUEST_BYTES = 32 << 10
READY = b"ready\n"
KILL = b"k"


class Program(Frozen):
    """A command line whose program lies in a virtual environment, and that environment."""

    command: tuple[str, ...]
    environment: str


class Request(Frozen):
    """Fork a child that is confined to `directory` and does `entry` there, or runs `program`, or the trial.

    Three file descriptors travel with it: the lifeline (a socket), the wire and the output (pipes to write to).
    """

    directory: str
    kind: WorkKind
    entry: str
    limits: Limits
    device: Literal["cpu", "cuda"]
    strict: bool
    program: Program | None = None
    trial: Trial | None = None


class Ended(Frozen):
    """The child was reaped: `code` is its exit status, or minus the signal that ended it."""

    code: int


class Born(Frozen):
    """The child runs as process `pid`, the leader of its own session and group."""

    pid: int
