"""What a job's process may say to its parent: one JSON object per line, bounded, strictly checked.

The child is hostile from its parent's point of view: it runs libraries over uploaded files.
"""

import unicodedata
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from app.spec.agents import AgentId
from app.spec.base import Frozen
from app.spec.failure import MAX_DETAIL, MAX_REMEDY, Failure
from app.spec.progress import MAX_MESSAGE, MAX_STAGE, JobProgress
from app.spec.targets import ToolchainName
from app.spec.work import FileName
from worker.runtime.errors import Crashed

MAX_LINE_BYTES = 64 << 10
MAX_LOG_BYTES = 1 << 20
MAX_LOG_MESSAGE = 4000
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
TRUNCATED = "The log ends here: the job wrote more than 1 MiB."

Line = Annotated[str, StringConstraints(max_length=MAX_LOG_MESSAGE)]


class Advanced(Frozen):
    """The job is where `progress` says."""

    kind: Literal["progress"] = "progress"
    progress: JobProgress


class LogLine(Frozen):
    """One line of the job's log. `source`: the engine's own words, or what its process printed."""

    kind: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: Line
    source: Literal["engine", "output"] = "engine"


class CheckpointChanged(Frozen):
    """The file `name` in the folder of checkpoints is complete, or was deleted because it is of no more use."""

    kind: Literal["kept"] = "kept"
    name: FileName


class StartToolchain(Frozen):
    """Start the toolchain `name` in folder `number` of the job's toolchains."""

    kind: Literal["wanted"] = "wanted"
    number: int = Field(ge=0, lt=10_000)
    name: ToolchainName


class AskAgent(Frozen):
    """Have device agent `agent` do the task in folder `number` of the job's agents."""

    kind: Literal["asked"] = "asked"
    number: int = Field(ge=0, lt=10_000)
    agent: AgentId


class Started(Frozen):
    """The child is confined as `layers` says and begins."""

    kind: Literal["started"] = "started"
    layers: dict[str, bool | str] = Field(max_length=16)


class Failed(Frozen):
    """The last line of a job that ended with a documented error."""

    kind: Literal["failed"] = "failed"
    failure: Failure


class Done(Frozen):
    """The last line of a job whose result is on disk."""

    kind: Literal["done"] = "done"


AnyMessage = Advanced | LogLine | CheckpointChanged | StartToolchain | AskAgent | Started | Failed | Done
_MESSAGE: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Field(discriminator="kind")])


def encode(message: AnyMessage) -> bytes:
    """The message as one line, newline included."""
    return message.model_dump_json().encode() + b"\n"


def decode(line: bytes) -> AnyMessage:
    """Check one line and make its texts safe to print. Raises Crashed for anything but a message."""
    try:
        message = _MESSAGE.validate_json(line, strict=True)
    except ValidationError as error:
        raise Crashed("The process broke the protocol with its parent.") from error
    match message:
        case Advanced(progress=progress):
            stage, text = escaped(progress.stage)[:MAX_STAGE], escaped(progress.message)[:MAX_MESSAGE]
            return Advanced(progress=progress.model_copy(update={"stage": stage, "message": text}))
        case LogLine():
            return message.model_copy(update={"message": escaped(message.message)[:MAX_LOG_MESSAGE]})
        case Failed():
            return Failed(failure=escaped_failure(message.failure))
        case _:
            return message


def escaped_failure(failure: Failure) -> Failure:
    """The same failure with texts that are safe to print."""
    return failure.model_copy(
        update={"detail": escaped(failure.detail)[:MAX_DETAIL], "remedy": escaped(failure.remedy)[:MAX_REMEDY]}
    )


def escaped(text: str) -> str:
    r"""Write what moves a cursor, ends a line or turns the reading direction as an escape such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in UNPRINTABLE else char for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


class Lines:
    """Cuts a stream of bytes into lines. Raises Crashed when a line is longer than 64 KiB."""

    def __init__(self) -> None:
        """Of a line, what was read so far is kept until its newline comes."""
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their newlines."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES or any(len(line) > MAX_LINE_BYTES for line in whole):
            raise Crashed("The process broke the protocol with its parent: a line is too long.")
        return whole
