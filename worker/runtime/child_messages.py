"""What a child says, on its way to whoever listens: cut into messages, checked, bounded, and handed on tick by tick.

The child is hostile: it may repeat itself, flood its pipes, and speak after its last word.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.spec.progress import JobProgress
from app.spec.targets import ToolchainName
from worker.runtime.child_protocol import (
    MAX_LOG_BYTES,
    MAX_LOG_MESSAGE,
    TRUNCATED,
    Advanced,
    AskAgent,
    CheckpointChanged,
    Done,
    Failed,
    Lines,
    LogLine,
    StartToolchain,
    decode,
    escaped,
)
from worker.runtime.errors import Crashed
from worker.runtime.progress_throttle import ProgressThrottle
from worker.runtime.redact import Scrubber

OUTPUT_BYTES: Final = 64 << 10
MAX_CHECKPOINTS: Final = 200
"""Names of checkpoints that one attempt may use; a job of 16 steps needs some 60."""
MAX_REQUESTS: Final = 256
"""Toolchains and agents that one child may ask for; 8 targets on 16 devices need 144. The rest goes unheard."""
MAX_LOG_LINES: Final = 20_000
"""Each becomes an event, however short it is."""


def _ignore(*_: object) -> None:
    """Do nothing: the caller does not listen to this."""


@dataclass(frozen=True)
class Listeners:
    """What the caller hears of a child, from the thread that watches it."""

    on_progress: Callable[[JobProgress], None] = _ignore
    on_log: Callable[[LogLine], None] = _ignore
    on_checkpoint: Callable[[str], None] = _ignore
    """The name of a file in the folder of checkpoints that is complete, or was deleted."""
    should_stop: Callable[[], str | None] = lambda: None
    """Asked ten times a second; a text ends the child and is the reason."""
    on_toolchain: Callable[[int, ToolchainName], None] = _ignore
    """Number of a folder, and the toolchain whose process the child wants there."""
    on_agent: Callable[[int, str], None] = _ignore
    """Number of a task's folder, and the device agent that the child wants it done by."""


class ChildMessages:
    """What one child has said and its listeners have not heard yet; `last` is what it ended with."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self.last: Done | Failed | None = None
        self._lines = Lines()
        self._progress = ProgressThrottle()
        self._checkpoints: list[str] = []
        self._checkpoint_names: set[str] = set()
        self._requests: list[StartToolchain | AskAgent] = []
        self._requested = 0
        self._log: list[LogLine] = []
        self._logged = 0
        self._output: deque[bytes] = deque()
        self._output_bytes = 0

    def receive(self, chunk: bytes) -> None:
        """Take what came through the pipe for messages. Raises Crashed for what is none."""
        for line in self._lines.feed(chunk):
            self._receive_line(line)

    def receive_output(self, chunk: bytes) -> None:
        """Take what the process printed; only its end is kept."""
        self._output.append(chunk)
        self._output_bytes += len(chunk)
        while self._output_bytes - len(self._output[0]) >= OUTPUT_BYTES:
            self._output_bytes -= len(self._output.popleft())

    def printed(self, words: bytes) -> bool:
        """Whether the end of the output holds these words."""
        return words in b"".join(self._output)

    def log_output(self, directory: Path) -> None:
        """Add the end of the output to the log, without folders of this machine."""
        scrubber = Scrubber(directory)
        text = b"".join(self._output)[-OUTPUT_BYTES:].decode("utf-8", "replace")
        for line in text.splitlines():
            self._log.append(LogLine(message=escaped(scrubber(line))[:MAX_LOG_MESSAGE], source="output"))

    def notify(self, listeners: Listeners) -> None:
        """Hand on what was said; a listener that raises hears nothing twice."""
        lines, self._log = self._log, []
        checkpoints, self._checkpoints = self._checkpoints, []
        requests, self._requests = self._requests, []
        for line in lines:
            listeners.on_log(line)
        for progress in self._progress.take():
            listeners.on_progress(progress)
        for name in checkpoints:
            listeners.on_checkpoint(name)
        for request in requests:
            if isinstance(request, AskAgent):
                listeners.on_agent(request.number, request.agent)
            else:
                listeners.on_toolchain(request.number, request.name)

    def _receive_line(self, line: bytes) -> None:
        if self.last is not None:
            raise Crashed("The process broke the protocol with its parent: it spoke after its last line.")
        match decode(line):
            case Advanced(progress=progress):
                self._progress.add(progress)
            case LogLine() as log_line:
                self._add_line(log_line)
            case CheckpointChanged(name=name):
                self._add_checkpoint(name)
            case StartToolchain() | AskAgent() as request:
                self._add_request(request)
            case Done() | Failed() as last:
                self.last = last
            case started:
                layers = ", ".join(f"{name}: {state}" for name, state in started.layers.items())
                self._add_line(LogLine(message=f"confined by {escaped(layers)}"[:MAX_LOG_MESSAGE]))

    def _add_checkpoint(self, name: str) -> None:
        if name in self._checkpoint_names or len(self._checkpoint_names) < MAX_CHECKPOINTS:
            self._checkpoint_names.add(name)
            self._checkpoints.append(name)

    def _add_request(self, request: StartToolchain | AskAgent) -> None:
        self._requested += 1
        if self._requested <= MAX_REQUESTS:
            self._requests.append(request)

    def _add_line(self, line: LogLine) -> None:
        if self._logged > MAX_LOG_BYTES:
            return
        self._logged += max(len(line.message) + 1, MAX_LOG_BYTES // MAX_LOG_LINES)
        if self._logged > MAX_LOG_BYTES:
            line = LogLine(level="warning", message=TRUNCATED)
        self._log.append(line)
