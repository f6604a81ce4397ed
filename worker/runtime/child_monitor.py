"""One child, watched from its birth to its end by its parent, who believes nothing it says without checking."""

import contextlib
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import PareError
from app.spec.failure import Failure
from app.spec.targets import ToolchainName
from worker.runtime import footprint
from worker.runtime.child_protocol import (
    MAX_LOG_BYTES,
    MAX_LOG_MESSAGE,
    TRUNCATED,
    Asked,
    Done,
    Failed,
    Kept,
    Lines,
    LogLine,
    Progress,
    Wanted,
    decode,
    plain,
)
from worker.runtime.errors import Crashed, Killed, OutOfDisk, OutOfMemory, TimedOut
from worker.runtime.fork_server import ChildHandle
from worker.runtime.jail.limits import Limits
from worker.runtime.redact import Scrubber

TICK_S: Final = 0.1
DISK_EVERY_TICKS: Final = 10
CHUNK_BYTES: Final = 64 << 10
TICK_BYTES: Final = 256 << 10
"""Read from a child in one tick; the rest waits in its pipe, so that a flood costs the child and not its parent."""
OUTPUT_BYTES: Final = 64 << 10
DEATH_S: Final = 10
NEARLY: Final = 0.9


MAX_CHECKPOINTS: Final = 200
"""Names of checkpoints that one attempt may use; a job of 16 steps needs some 60."""


def _unheard(_: object) -> None:
    """Ignore what nobody wants to hear."""


@dataclass(frozen=True)
class Listeners:
    """Whom to tell, from the thread that watches. `should_stop` is asked ten times a second; a text stops."""

    on_progress: Callable[[Progress], None] = _unheard
    on_log: Callable[[LogLine], None] = _unheard
    on_checkpoint: Callable[[str], None] = _unheard
    """Hears the name of a file in the folder of checkpoints that is complete, or was deleted."""
    should_stop: Callable[[], str | None] = lambda: None
    on_toolchain: Callable[[int, ToolchainName], None] = lambda _number, _name: None
    """Hears which toolchain's process the child asks for, and the number of its folder."""
    on_agent: Callable[[int, str], None] = lambda _number, _agent: None
    """Hears which device agent the child asks for, and the number of the task's folder."""


@dataclass(frozen=True)
class Stopped:
    """The caller asked for the end, for this reason."""

    reason: str


@dataclass(frozen=True)
class Verdict:
    """The child says that it is done and ended well; its result is yet to be checked."""


class ChildMonitor:
    """Keeps watch over one child."""

    def __init__(
        self, lifeline: ChildHandle, wire: int, output: int, directory: Path, limits: Limits, *, alone: bool
    ) -> None:
        """Read `wire` and `output`, pipes that the caller closes. `alone`: the child cannot start processes."""
        self._lifeline = lifeline
        self._wire, self._output = wire, output
        self._directory = directory
        self._limits = limits
        self._alone = alone
        self._lines = Lines()
        self._news: list[Progress] = []
        self._step = 0
        self._kept: list[str] = []
        self._names: set[str] = set()
        self._wanted: list[Wanted | Asked] = []
        self._log: list[LogLine] = []
        self._logged = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._last: Done | Failed | None = None
        self._peak = 0
        self._ticks = 0
        self._inputs = footprint.disk(directory, most=10 * footprint.MAX_ENTRIES)
        self._selector = selectors.DefaultSelector()
        for pipe in (wire, output):
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ)
        self._selector.register(lifeline, selectors.EVENT_READ)

    def keep(self, listeners: Listeners) -> Verdict | Failure | Stopped:
        """Watch until the end. The caller's own exceptions pass through."""
        deadline = time.monotonic() + self._limits.wall_s
        end: PareError | Stopped | None = None
        try:
            while not self._lifeline.over:
                self._tick()
                self._tell(listeners)
                if reason := listeners.should_stop():
                    end = Stopped(reason)
                    break
                self._check(deadline)
            self._drain()
            if self._lifeline.code is None and end is None:
                self._orphaned()
        except PareError as broken:
            end = broken
        if end is not None:
            self._kill()
        self._add_output()
        self._tell(listeners)
        return end if isinstance(end, Stopped) else self._judged(end)

    def close(self) -> None:
        """Let go; a child that still lives ends."""
        self._selector.close()
        self._lifeline.close()

    def _tick(self) -> None:
        """Read what comes within a tenth of a second, or as much as one tick takes."""
        until, budget = time.monotonic() + TICK_S, TICK_BYTES
        while not self._lifeline.over and (left := until - time.monotonic()) > 0:
            if budget <= 0:
                time.sleep(left)
                return
            for key, _ in self._selector.select(left):
                if key.fileobj is self._lifeline:
                    self._lifeline.look()
                else:
                    budget -= self._read(key.fd)

    def _read(self, pipe: int) -> int:
        try:
            chunk = os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self._selector.unregister(pipe)
        elif pipe == self._wire:
            for line in self._lines.feed(chunk):
                self._hear(line)
        else:
            self._keep_tail(chunk)
        return len(chunk)

    def _drain(self) -> None:
        """What the child wrote before its end: at most what the pipes hold, as nothing writes to them any more."""
        for pipe in (self._wire, self._output):
            left = TICK_BYTES * 8
            while pipe in self._selector.get_map() and left > 0 and (read := self._read(pipe)):
                left -= read

    def _hear(self, line: bytes) -> None:
        if self._last is not None:
            raise Crashed("The job's process broke the protocol with its parent: it spoke after its last line.")
        match decode(line):
            case Progress() as news:
                self._add_news(news)
            case LogLine() as said:
                self._add_line(said)
            case Kept(name=name):
                self._add_checkpoint(name)
            case Wanted() | Asked() as wanted:
                self._wanted.append(wanted)
            case Done() | Failed() as last:
                self._last = last
            case started:
                layers = ", ".join(f"{name}: {held}" for name, held in started.layers.items())
                self._add_line(LogLine(message=f"confined by {plain(layers)}"[:MAX_LOG_MESSAGE]))

    def _add_news(self, news: Progress) -> None:
        """Keep the newest of each stage. Stages only go forward: a child cannot make more events than it has steps."""
        if news.step < self._step:
            return
        if self._news and news.step == self._step:
            self._news.pop()
        self._step = news.step
        self._news.append(news)

    def _add_checkpoint(self, name: str) -> None:
        if name in self._names or len(self._names) < MAX_CHECKPOINTS:
            self._names.add(name)
            self._kept.append(name)

    def _add_line(self, line: LogLine) -> None:
        if self._logged > MAX_LOG_BYTES:
            return
        self._logged += len(line.message) + 1
        if self._logged > MAX_LOG_BYTES:
            line = LogLine(level="warning", message=TRUNCATED)
        self._log.append(line)

    def _keep_tail(self, chunk: bytes) -> None:
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= OUTPUT_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def _add_output(self) -> None:
        """The end of what the process printed, behind its log."""
        scrubber = Scrubber(self._directory)
        text = b"".join(self._tail)[-OUTPUT_BYTES:].decode("utf-8", "replace")
        for line in text.splitlines():
            self._log.append(LogLine(message=plain(scrubber(line))[:MAX_LOG_MESSAGE], source="output"))

    def _tell(self, listeners: Listeners) -> None:
        news, said, kept, wanted = self._news, self._log, self._kept, self._wanted
        self._news, self._log, self._kept, self._wanted = [], [], [], []
        for line in said:
            listeners.on_log(line)
        for progress in news:
            listeners.on_progress(progress)
        for name in kept:
            listeners.on_checkpoint(name)
        for one in wanted:
            if isinstance(one, Asked):
                listeners.on_agent(one.number, one.agent)
            else:
                listeners.on_toolchain(one.number, one.name)

    def _check(self, deadline: float) -> None:
        if self._lifeline.over:
            return
        if time.monotonic() > deadline:
            raise TimedOut(f"The job did not finish within {self._limits.wall_s:g} s.")
        held = footprint.memory_bytes(self._lifeline.pid, alone=self._alone)
        self._peak = max(self._peak, held)
        if held > self._limits.memory_bytes:
            raise OutOfMemory(f"The job held more than {self._limits.memory_bytes >> 20} MiB of memory.")
        self._ticks += 1
        if self._ticks % DISK_EVERY_TICKS == 0:
            most = self._inputs.entries + footprint.MAX_ENTRIES
            used = footprint.disk(self._directory, most)
            if used.entries > most:
                raise OutOfDisk(f"The job made more than {footprint.MAX_ENTRIES} files.")
            if used.bytes - self._inputs.bytes > self._limits.file_bytes:
                raise OutOfDisk(f"The job wrote more than {self._limits.file_bytes >> 20} MiB to disk.")

    def _orphaned(self) -> None:
        """The zygote is gone. Linux has killed its children with it; elsewhere it is done here."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._lifeline.pid, signal.SIGKILL)

    def _kill(self) -> None:
        self._lifeline.kill()
        deadline = time.monotonic() + DEATH_S
        while not self._lifeline.over and time.monotonic() < deadline:
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj is self._lifeline:
                    self._lifeline.look()
                elif not (chunk := self._swallow(key.fd)):
                    self._selector.unregister(key.fd)
                elif key.fd == self._output:
                    self._keep_tail(chunk)

    @staticmethod
    def _swallow(pipe: int) -> bytes:
        """Past the end nothing on the wire counts any more."""
        try:
            return os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def _judged(self, end: PareError | None) -> Verdict | Failure:
        code = self._lifeline.code
        if end is None and code == 0 and isinstance(self._last, Done):
            return Verdict()
        if end is None and isinstance(self._last, Failed):
            return self._last.failure
        error = end or self._cause(code)
        return Failure(code=error.code, detail=error.detail, remedy=error.remedy)

    def _cause(self, code: int | None) -> PareError:
        """What an end without a last word means."""
        if code is None:
            return Killed("The job's process ended together with the one it was forked from.")
        if b"std::bad_alloc" in b"".join(self._tail):
            return OutOfMemory("The job ran out of memory.")
        if code >= 0:
            return Crashed(f"The job's process ended with status {code} and without a result.")
        if -code == signal.SIGKILL and self._peak > NEARLY * self._limits.memory_bytes:
            return OutOfMemory("The operating system ended the job's process close to its memory limit.")
        return by_signal(-code)


def by_signal(number: int) -> PareError:
    """What it means that a signal ended the child."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    match number:
        case signal.SIGXCPU:
            return TimedOut("The job used up its CPU time.")
        case signal.SIGXFSZ:
            return OutOfDisk("The job wrote a file over the limit.")
        case signal.SIGKILL | signal.SIGTERM:
            return Killed(f"The job's process was ended by {name} from outside.")
        case _:
            return Crashed(f"The job's process crashed with {name}.")
