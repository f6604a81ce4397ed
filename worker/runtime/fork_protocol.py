"""What the parent asks of the zygote, and what the zygote answers over the child's own connection."""

from typing import Literal

from app.spec.base import Frozen
from worker.runtime.jail.limits import Limits
from worker.runtime.jail.trial import Trial

MAX_REQUEST_BYTES = 32 << 10
KILL = b"k"


class Entry(Frozen):
    """A function to call and the class that reads its order: `module:name` each, of ours."""

    function: str
    order: str


class ToolchainCommand(Frozen):
    """A command line whose program lies in a virtual environment, and that environment."""

    command: tuple[str, ...]
    environment: str


class Request(Frozen):
    """Fork a child that is confined to `directory` and does `work` there.

    Three file descriptors travel with it: the child's connection (a socket), and the pipes that it writes its messages
    and its output to.
    """

    directory: str
    limits: Limits
    device: Literal["cpu", "cuda"]
    strict: bool
    work: Entry | ToolchainCommand | Trial


class Ready(Frozen):
    """The zygote's first line: it has loaded everything, and `codes` are those of the errors that are documented."""

    codes: frozenset[str]


class Ended(Frozen):
    """The child was reaped: `code` is its exit status, or minus the signal that ended it."""

    code: int


class Born(Frozen):
    """The child runs as process `pid`, the leader of its own session and group."""

    pid: int
