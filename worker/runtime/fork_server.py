"""The parent's end of the zygote: start it with an empty environment, have it fork, start another when it has died."""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from pydantic import ValidationError

import worker
from worker.runtime.errors import NotStarted
from worker.runtime.fork_protocol import KILL, MAX_REQUEST_BYTES, Born, Ended, Ready, Request

START_S: Final = 180
FORK_S: Final = 30
END_S: Final = 5
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class ChildHandle:
    """One child. It lives as long as this is open."""

    def __init__(self, connection: socket.socket, codes: frozenset[str]) -> None:
        """Wait for the child's birth. Raises NotStarted if the zygote is gone or stuck.

        `codes` are those of the documented errors, as the zygote knew them before it had a child.
        """
        self._connection = connection
        self.codes = codes
        self._read = b""
        connection.settimeout(FORK_S)
        try:
            born = self._next_line()
            self.pid = Born.model_validate_json(born).pid
        except (OSError, ValidationError) as error:
            connection.close()
            raise NotStarted("A process for the job could not be forked.") from error
        connection.setblocking(False)
        self.code: int | None = None
        self.over = False

    def fileno(self) -> int:
        """For a selector: readable when the child has ended."""
        return self._connection.fileno()

    def look(self) -> None:
        """After it became readable: `over` is set, and `code` where the zygote lived to tell it."""
        try:
            line = self._next_line()
        except BlockingIOError:
            return
        except OSError:
            line = b""
        self.over = True
        if line:
            self.code = Ended.model_validate_json(line).code

    def kill(self) -> None:
        """Have the zygote kill the child's process group; the end is reported as any other."""
        try:
            self._connection.send(KILL)
        except OSError:
            self.over = True

    def close(self) -> None:
        """Let go of the child, which ends it."""
        self._connection.close()

    def _next_line(self) -> bytes:
        while b"\n" not in self._read:
            chunk = self._connection.recv(4096)
            if not chunk:
                return b""
            self._read += chunk
        line, _, self._read = self._read.partition(b"\n")
        return line


class ForkServer:
    """Owns at most one zygote. Safe to use from several threads."""

    def __init__(self, scratch: Path, entry: str, threads: int) -> None:
        """Nothing is started before the first `fork` or `start`."""
        self._scratch = scratch
        self._entry = entry
        self._threads = threads
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._home: Path | None = None
        self._codes: frozenset[str] = frozenset()

    @property
    def pid(self) -> int | None:
        """The zygote's process, if one was started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the zygote unless it lives. Raises NotStarted."""
        with self._lock:
            self._started()

    def fork(self, request: Request, messages: int, output: int) -> ChildHandle:
        """A child that does `request`; it gets copies of the pipes `messages` and `output`. Raises NotStarted."""
        request_bytes = request.model_dump_json().encode()
        if len(request_bytes) > MAX_REQUEST_BYTES:
            raise NotStarted("The request for a process is too long.")
        with self._lock:
            try:
                return self._forked(request_bytes, messages, output)
            except (OSError, NotStarted):
                self._stop()  # it died unnoticed, or is stuck: one more try with a fresh one
                try:
                    return self._forked(request_bytes, messages, output)
                except OSError as error:
                    raise NotStarted("The process that jobs are forked from could not be reached.") from error

    def close(self) -> None:
        """End the zygote and with it all children."""
        with self._lock:
            self._stop()

    def _forked(self, request: bytes, messages: int, output: int) -> ChildHandle:
        control = self._started()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(control, [request], [theirs.fileno(), messages, output])
        except OSError:
            ours.close()
            raise
        return ChildHandle(ours, self._codes)

    def _started(self) -> socket.socket:
        if self._process and self._control and self._process.poll() is None:
            return self._control
        self._stop()
        self._control, theirs = socket.socketpair()
        self._home = Path(tempfile.mkdtemp(prefix="zygote-", dir=self._scratch))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
                [sys.executable, "-P", "-m", "worker.runtime.zygote", str(theirs.fileno()), self._entry],
                env=environment(self._home, self._threads),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._await_ready()
        return self._control

    def _await_ready(self) -> None:
        if self._control is None:
            return
        deadline = time.monotonic() + START_S
        line = b""
        while time.monotonic() < deadline and not line.endswith(b"\n"):
            if select.select([self._control], [], [], 1.0)[0]:
                chunk = self._control.recv(4096)
                if not chunk:
                    break
                line += chunk
        try:
            self._codes = Ready.model_validate_json(line).codes
        except ValidationError as error:
            self._stop()
            raise NotStarted("The process that jobs are forked from did not start.") from error

    def _stop(self) -> None:
        if self._control:
            self._control.close()
        if self._process:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._home:
            shutil.rmtree(self._home, ignore_errors=True)
        self._control = None
        self._process = None
        self._home = None


def environment(home: Path, threads: int) -> dict[str, str]:
    """What the zygote and its children know: nothing of ours that is secret, because nothing is passed on unnamed."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": _import_path(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads made a small training loop fifty times slower
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _import_path() -> str:
    """Where this process found Pare, and libraries outside the interpreter's own folders (HOME is not theirs)."""
    ours = Path(worker.__path__[0]).resolve().parent
    prefixes = (sys.prefix, sys.base_prefix)
    others = [entry for entry in sys.path if entry.endswith("-packages") and not entry.startswith(prefixes)]
    return os.pathsep.join([str(ours), *others])
