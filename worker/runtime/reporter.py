"""The child's end of the wire: progress at ten lines a second, a log of one mebibyte, texts cut to size."""

import os
import threading
import time
from typing import Final

from app.spec.targets import ToolchainName
from worker.engine.progress import LogLevel
from worker.runtime.child_protocol import (
    MAX_LOG_BYTES,
    MAX_LOG_MESSAGE,
    MAX_MESSAGE,
    MAX_NAME,
    TRUNCATED,
    Asked,
    Done,
    Failed,
    Kept,
    LogLine,
    Progress,
    Started,
    Wanted,
    encode,
)

PROGRESS_INTERVAL_S: Final = 0.1


class Reporter:
    """A `worker.engine.progress.Progress` that writes to a pipe. Safe to call from several threads."""

    def __init__(self, fd: int) -> None:
        """Write to `fd`, which the reporter does not close."""
        self._fd = fd
        self._lock = threading.RLock()
        self._now = Progress(stage="", step=0, steps=0, fraction=0.0)
        self._unsent = False
        self._sent_at = 0.0
        self._logged = 0

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Begin stage number `step` (from 1) of `steps`. Each one is sent, however short it is."""
        with self._lock:
            self._now, self._unsent = Progress(stage=name[:MAX_NAME], step=step, steps=steps, fraction=0.0), True
            self._flush()

    def advance(self, fraction: float, message: str = "") -> None:
        """Say that `fraction` of the present stage is done; values outside 0 to 1 are clamped."""
        done = min(1.0, max(0.0, float(fraction)))
        update = {"fraction": done, "message": message[:MAX_MESSAGE]}
        with self._lock:
            self._progress(self._now.model_copy(update=update))

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Add a line to the job's log; its own newlines begin further lines."""
        for line in message.splitlines() or [""]:
            self._line(LogLine(level=level, message=line[:MAX_LOG_MESSAGE]))

    def checkpoint(self, name: str) -> None:
        """Say that a file in the folder of checkpoints is complete, or was deleted."""
        self.send(Kept(name=name))

    def start_toolchain(self, number: int, name: ToolchainName) -> None:
        """Ask the parent for a toolchain's process in folder `number`."""
        self.send(Wanted(number=number, name=name))

    def ask_agent(self, number: int, agent: str) -> None:
        """Ask the parent to have a task done by a device agent."""
        self.send(Asked(number=number, agent=agent))

    def trace(self, text: str) -> None:
        """Add a traceback to the job's log."""
        for line in text.splitlines():
            self._line(LogLine(level="error", message=line[:MAX_LOG_MESSAGE]))

    def send(self, message: Kept | Wanted | Asked | Started | Failed | Done) -> None:
        """Write what is still held back, then `message`."""
        with self._lock:
            self._flush()
            self._write(encode(message))

    def _progress(self, progress: Progress) -> None:
        with self._lock:
            self._now, self._unsent = progress, True
            if time.monotonic() - self._sent_at >= PROGRESS_INTERVAL_S:
                self._flush()

    def _flush(self) -> None:
        if self._unsent:
            self._unsent, self._sent_at = False, time.monotonic()
            self._write(encode(self._now))

    def _line(self, line: LogLine) -> None:
        with self._lock:
            if self._logged > MAX_LOG_BYTES:
                return
            encoded = encode(line)
            self._logged += len(encoded)
            if self._logged > MAX_LOG_BYTES:
                encoded = encode(LogLine(level="warning", message=TRUNCATED))
            self._flush()  # keeps progress and log in the order in which they were said
            self._write(encoded)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
