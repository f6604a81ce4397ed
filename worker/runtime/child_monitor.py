"""One child, watched from its birth to its end by its parent, who believes nothing it says without checking."""

import contextlib
import os
import selectors
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import PareError
from app.spec.failure import Failure
from worker.runtime import footprint
from worker.runtime.child_messages import ChildMessages, Listeners
from worker.runtime.child_protocol import Done, Failed
from worker.runtime.errors import Crashed, Killed, OutOfDisk, OutOfMemory, TimedOut
from worker.runtime.fork_server import ChildHandle
from worker.runtime.jail.limits import Limits

TICK_S: Final = 0.1
DISK_EVERY_TICKS: Final = 10
CHUNK_BYTES: Final = 64 << 10
TICK_BYTES: Final = 256 << 10
"""Read from a child in one tick; the rest waits in its pipe, so that a flood costs the child and not its parent."""
RESERVE_BYTES: Final = 256 << 20
"""Of the disk that jobs write to: below it a job ends before the disk is full, whatever can be seen of its files."""
DEATH_S: Final = 10
NO_MEMORY: Final = (b"std::bad_alloc", b"memory allocation of ")
"""What C++ and Rust print before they abort for want of memory."""
NEARLY: Final = 0.9
"""Of the memory limit: a SIGKILL above it is taken for the kernel's, which looks more often than we do."""


@dataclass(frozen=True)
class Stopped:
    """The caller asked for the end, for this reason."""

    reason: str


@dataclass(frozen=True)
class EndedWell:
    """The child says that it is done, and its process ended well; its result is yet to be checked."""


class ChildMonitor:
    """Watches over one child: reads what it says, holds it to its limits, and says how it ended."""

    def __init__(
        self,
        child: ChildHandle,
        messages: int,
        output: int,
        directory: Path,
        limits: Limits,
        *,
        alone: bool,
        subject: str = "The job",
    ) -> None:
        """Read `messages` and `output`, pipes that the caller closes.

        `alone`: the child cannot start processes. `subject`: whose process it is, as failures say it.
        """
        self._child = child
        self._message_pipe, self._output_pipe = messages, output
        self._directory = directory
        self._limits = limits
        self._alone = alone
        self._subject = subject
        self._messages = ChildMessages()
        self._peak_bytes = 0
        self._ticks = 0
        self._inputs = footprint.disk(directory, most=10 * footprint.MAX_ENTRIES)
        self._least_free_bytes = min(RESERVE_BYTES, footprint.free_bytes(directory) // 2)
        self._selector = selectors.DefaultSelector()
        for pipe in (messages, output):
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ)
        self._selector.register(child, selectors.EVENT_READ)

    def watch(self, listeners: Listeners) -> EndedWell | Failure | Stopped:
        """Watch until the end. The caller's own exceptions pass through."""
        deadline = time.monotonic() + self._limits.wall_s
        end: PareError | Stopped | None = None
        try:
            while not self._child.over:
                self._read_for_a_tick()
                self._messages.notify(listeners)
                if reason := listeners.should_stop():
                    end = Stopped(reason)
                    break
                self._require_within_limits(deadline)
            self._drain()
            if self._child.code is None and end is None:
                self._kill_orphan()
        except PareError as broken:
            end = broken
        if end is not None:
            self._kill()
        self._messages.log_output(self._directory)
        self._messages.notify(listeners)
        return end if isinstance(end, Stopped) else self._judged(end)

    def close(self) -> None:
        """Let go; a child that still lives ends."""
        self._selector.close()
        self._child.close()

    def _read_for_a_tick(self) -> None:
        """Read what comes within a tenth of a second, or as much as one tick takes."""
        until, budget = time.monotonic() + TICK_S, TICK_BYTES
        while not self._child.over and (left := until - time.monotonic()) > 0:
            if budget <= 0:
                time.sleep(left)
                return
            for key, _ in self._selector.select(left):
                if key.fileobj is self._child:
                    self._child.look()
                else:
                    budget -= self._read(key.fd)

    def _read(self, pipe: int) -> int:
        try:
            chunk = os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self._selector.unregister(pipe)
        elif pipe == self._message_pipe:
            self._messages.receive(chunk)
        else:
            self._messages.receive_output(chunk)
        return len(chunk)

    def _drain(self) -> None:
        """What the child wrote before its end: at most what the pipes hold, as nothing writes to them any more."""
        for pipe in (self._message_pipe, self._output_pipe):
            left = TICK_BYTES * 8
            while pipe in self._selector.get_map() and left > 0 and (read := self._read(pipe)):
                left -= read

    def _require_within_limits(self, deadline: float) -> None:
        if self._child.over:
            return
        if time.monotonic() > deadline:
            raise TimedOut(f"{self._subject} did not finish within {self._limits.wall_s:g} s.")
        memory_bytes = footprint.memory_bytes(self._child.pid, alone=self._alone)
        self._peak_bytes = max(self._peak_bytes, memory_bytes)
        if memory_bytes > self._limits.memory_bytes:
            raise OutOfMemory(f"{self._subject} held more than {self._limits.memory_bytes >> 20} MiB of memory.")
        self._ticks += 1
        if self._ticks % DISK_EVERY_TICKS == 0:
            self._require_disk()

    def _require_disk(self) -> None:
        most = self._inputs.entries + footprint.MAX_ENTRIES
        used = footprint.disk(self._directory, most)
        if used.hidden:
            raise OutOfDisk(f"{self._subject} made {used.hidden}, so what it wrote cannot be counted.")
        if used.entries > most:
            raise OutOfDisk(f"{self._subject} made more than {footprint.MAX_ENTRIES} files.")
        nameless_bytes = footprint.nameless_bytes(self._directory, self._child.pid, alone=self._alone)
        if used.bytes + nameless_bytes - self._inputs.bytes > self._limits.file_bytes:
            raise OutOfDisk(f"{self._subject} wrote more than {self._limits.file_bytes >> 20} MiB to disk.")
        if footprint.free_bytes(self._directory) < self._least_free_bytes:
            raise OutOfDisk(f"{self._subject} was ended because the worker's disk is nearly full.")

    def _kill_orphan(self) -> None:
        """The zygote is gone. Linux has killed its children with it; elsewhere it is done here."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _kill(self) -> None:
        self._child.kill()
        deadline = time.monotonic() + DEATH_S
        while not self._child.over and time.monotonic() < deadline:
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj is self._child:
                    self._child.look()
                elif not (chunk := self._read_ignored(key.fd)):
                    self._selector.unregister(key.fd)
                elif key.fd == self._output_pipe:
                    self._messages.receive_output(chunk)

    @staticmethod
    def _read_ignored(pipe: int) -> bytes:
        """Past the end no message counts any more; only output is kept."""
        try:
            return os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def _judged(self, end: PareError | None) -> EndedWell | Failure:
        code = self._child.code
        if end is None and code == 0 and isinstance(self._messages.last, Done):
            return EndedWell()
        if end is None and isinstance(self._messages.last, Failed):
            if self._messages.last.failure.code in self._child.codes:
                return self._messages.last.failure
            end = Crashed(f"{self._subject}'s process ended with an error that is not documented.")
        return Failure.of(end or self._cause(code))

    def _cause(self, code: int | None) -> PareError:
        """What an end without a last message means."""
        process = f"{self._subject}'s process"
        if code is None:
            return Killed(f"{process} ended together with the one it was forked from.")
        if any(map(self._messages.printed, NO_MEMORY)):
            return OutOfMemory(f"{self._subject} ran out of memory.")
        if code >= 0:
            return Crashed(f"{process} ended with status {code} and without a result.")
        if -code == signal.SIGKILL and self._peak_bytes > NEARLY * self._limits.memory_bytes:
            return OutOfMemory(f"{process} was ended by the operating system close to its memory limit.")
        return _ended_by_signal(self._subject, -code)


def _ended_by_signal(subject: str, number: int) -> PareError:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    match number:
        case signal.SIGXCPU:
            return TimedOut(f"{subject} used up its CPU time.")
        case signal.SIGXFSZ:
            return OutOfDisk(f"{subject} wrote a file over the limit.")
        case signal.SIGKILL | signal.SIGTERM:
            return Killed(f"{subject}'s process was ended by {name} from outside.")
        case _:
            return Crashed(f"{subject}'s process crashed with {name}.")
