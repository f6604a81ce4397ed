"""The child's end of the pipe to its parent: progress ten times a second, a log of one mebibyte, texts cut to size."""

import os
import threading
from typing import Final

from app.spec.progress import MAX_MESSAGE, MAX_STAGE, JobProgress
from app.spec.targets import ToolchainName
from worker.engine.progress import LogLevel
from worker.runtime.child_protocol import (
    MAX_LOG_BYTES,
    MAX_LOG_MESSAGE,
    TRUNCATED,
    Advanced,
    AskAgent,
    CheckpointChanged,
    Done,
    Failed,
    LogLine,
    Started,
    StartToolchain,
    encode,
)
from worker.runtime.progress_throttle import ProgressThrottle

PROGRESS_INTERVAL_S: Final = 0.1


class Reporter:
    """A `worker.engine.progress.Progress` that writes to a pipe. Safe to call from several threads."""

    def __init__(self, fd: int) -> None:
        """Write to `fd`, which the reporter does not close."""
        self._fd = fd
        self._lock = threading.RLock()
        self._progress = JobProgress()
        self._throttle = ProgressThrottle(PROGRESS_INTERVAL_S)
        self._logged = 0

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Begin stage number `step` (from 1) of `steps`. Each one is sent, however short it is."""
        with self._lock:
            self._advance(JobProgress(stage=name[:MAX_STAGE], step=step, steps=steps))

    def advance(self, fraction: float, message: str = "") -> None:
        """Say that `fraction` of the present stage is done; values outside 0 to 1 are clamped."""
        done = min(1.0, max(0.0, float(fraction)))
        with self._lock:
            self._advance(self._progress.model_copy(update={"fraction": done, "message": message[:MAX_MESSAGE]}))

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Add a line to the job's log; its own newlines begin further lines."""
        for line in message.splitlines() or [""]:
            self._line(LogLine(level=level, message=line[:MAX_LOG_MESSAGE]))

    def checkpoint(self, name: str) -> None:
        """Say that a file in the folder of checkpoints is complete, or was deleted."""
        self.send(CheckpointChanged(name=name))

    def start_toolchain(self, number: int, name: ToolchainName) -> None:
        """Ask the parent for a toolchain's process in folder `number`."""
        self.send(StartToolchain(number=number, name=name))

    def ask_agent(self, number: int, agent: str) -> None:
        """Ask the parent to have a task done by a device agent."""
        self.send(AskAgent(number=number, agent=agent))

    def trace(self, text: str) -> None:
        """Add a traceback to the job's log."""
        for line in text.splitlines():
            self._line(LogLine(level="error", message=line[:MAX_LOG_MESSAGE]))

    def send(self, message: CheckpointChanged | StartToolchain | AskAgent | Started | Failed | Done) -> None:
        """Write what is still held back, then `message`."""
        with self._lock:
            self._write_progress(self._throttle.take())
            self._write(encode(message))

    def _advance(self, progress: JobProgress) -> None:
        self._progress = progress
        self._throttle.add(progress)
        self._write_progress(self._throttle.due())

    def _line(self, line: LogLine) -> None:
        with self._lock:
            if self._logged > MAX_LOG_BYTES:
                return
            encoded = encode(line)
            self._logged += len(encoded)
            if self._logged > MAX_LOG_BYTES:
                encoded = encode(LogLine(level="warning", message=TRUNCATED))
            self._write_progress(self._throttle.take())  # keeps both in the order in which they were said
            self._write(encoded)

    def _write_progress(self, taken: list[JobProgress]) -> None:
        for progress in taken:
            self._write(encode(Advanced(progress=progress)))

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
