"""The process that jobs are forked from: it imports the numeric libraries once, and never computes.

Importing takes two seconds, a fork some ten milliseconds. A process that has run an OpenMP loop cannot fork children
that do (they hang), which is why this one does not. It holds no credentials: its environment is made for it.
It ends when its parent does, because its control socket then closes, and takes all jobs with it.
"""

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from typing import Final, NoReturn

from app.errors import PareError
from worker.runtime import child
from worker.runtime.fork_protocol import KILL, MAX_REQUEST_BYTES, Born, Ended, Ready, Request

LIBRARIES: Final = ("numpy", "torch", "onnx", "onnxruntime")


class Zygote:
    """Forks one child per request, kills those whose connection closes, reports how each ended."""

    def __init__(self, control: socket.socket) -> None:
        """Serve the parent at the other end of `control`."""
        self._control = control
        self._connections: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._wakeup, written = socket.socketpair()
        for end in (self._wakeup, written):
            end.setblocking(False)
        self._written = written
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that it is not ignored: the wakeup does the work
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def serve(self) -> None:
        """Say that all is loaded, then answer requests until the parent hangs up."""
        # Said now, by ourselves: a child that is taken over could make codes up.
        ready = Ready(codes=frozenset(error.code for error in PareError.every()))
        self._control.sendall(ready.model_dump_json().encode() + b"\n")
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._answer():
                        return
                elif key.fileobj is self._wakeup:
                    self._wakeup.recv(4096)
                else:
                    self._obey(key.data)
            self._reap()

    def end(self) -> None:
        """Kill every child."""
        for pid in self._connections:
            _kill(pid)

    def _answer(self) -> bool:
        """Take one request; False when the parent is gone."""
        message, fds, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 3)
        if not message:
            return False
        connection_fd, messages, output = fds
        request = Request.model_validate_json(message)
        zygote, pid = os.getpid(), os.fork()
        if pid == 0:
            _become_child(request, messages, output, zygote)
        os.close(messages)
        os.close(output)
        connection = socket.socket(fileno=connection_fd)
        self._connections[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        _send(connection, Born(pid=pid))
        return True

    def _obey(self, pid: int) -> None:
        """The child's connection says kill, or has closed, which means the same."""
        connection = self._connections.get(pid)
        if connection is None:
            return
        with contextlib.suppress(ConnectionError):
            if connection.recv(len(KILL)):
                _kill(pid)
                return
        self._selector.unregister(connection)
        _kill(pid)

    def _reap(self) -> None:
        while self._connections:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._connections.pop(pid)
            _kill_group(pid)  # where nothing forbids a job to fork, what it left behind
            with contextlib.suppress(KeyError):  # its end was seen before
                self._selector.unregister(connection)
            _send(connection, Ended(code=os.waitstatus_to_exitcode(status)))
            connection.close()


def _become_child(request: Request, messages: int, output: int, zygote: int) -> NoReturn:
    try:
        child.main(request, messages, output, zygote)
    finally:
        os._exit(os.EX_SOFTWARE)  # whatever happens, never return into the zygote's loop


def _kill(pid: int) -> None:
    """The child was not reaped yet, so its number is still its own. Before its setsid() it has no group."""
    _kill_group(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _send(connection: socket.socket, message: Born | Ended) -> None:
    with contextlib.suppress(OSError):  # the parent's run() is over; it no longer wants to know
        connection.sendall(message.model_dump_json().encode() + b"\n")


def main(arguments: Sequence[str]) -> None:
    """Run with the control socket's number and the entry point, whose module is loaded for all children."""
    control, entry = arguments
    for ignored in (signal.SIGINT, signal.SIGTERM):  # sent to a whole terminal or unit; the parent decides when to end
        signal.signal(ignored, signal.SIG_IGN)
    # Idle BLAS threads are the libraries' own, and they put them away around a fork.
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    for library in LIBRARIES:
        importlib.import_module(library)
    child.entry_point(entry)
    gc.collect()
    gc.freeze()  # children share these pages as long as no collection writes to them
    zygote = Zygote(socket.socket(fileno=int(control)))
    try:
        zygote.serve()
    finally:
        zygote.end()


if __name__ == "__main__":
    main(sys.argv[1:])
