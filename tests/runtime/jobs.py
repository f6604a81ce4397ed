"""Jobs that a child does in the tests: good ones, broken ones, hostile ones. Each is an entry point of its own."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.errors import PareError
from app.spec.work import WorkOrder, WorkResult
from tests.runtime.orders import result
from worker.engine.progress import Progress
from worker.runtime.child import WIRE


class TooSquare(PareError):
    """A test's own documented error."""

    code = "test.too_square"
    remedy = "Round it."


def succeeds(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for step in (1, 2, 3):
        progress.stage(f"stage {step}", step=step, steps=3)
        progress.log(f"in stage {step}\nand more")
        progress.advance(0.5, "half")
        time.sleep(0.15)
    (directory / "out" / "weights.bin").write_bytes(b"w" * 1000)
    print("printed by a library")
    return result("weights.bin", notes=(f"{order.threads} threads", Path.cwd().name))


def says_a_lot(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    progress.stage("busy", step=1, steps=1)
    for number in range(50_000):
        progress.advance(number / 50_000, "x" * 100)
    progress.advance(1.0, "the very last")
    for _ in range(3000):
        progress.log("y" * 1000)
    return result()


def documented_error(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    raise TooSquare("The model is square.", remedy="Round it off.")


def unexpected_error(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    raise ValueError(f"cannot read {directory}/weights and {sys.prefix}/lib/thing.py \x1b[31m at node /head/Conv")


def exits(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os._exit(3)


def calls_sys_exit(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    sys.exit(0)


def segfaults(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    ctypes.string_at(8)
    return result()


def aborts(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.abort()


def hogs_memory(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = []
    while True:
        kept.append(b"\x01" * (16 << 20))
        time.sleep(0.01)


def asks_for_too_much(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    import torch

    torch.empty(1 << 40)
    return result()


def fills_the_disk(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(1000):
        (directory / f"part{number}").write_bytes(b"\x01" * (1 << 20))
        time.sleep(0.02)
    return result()


def writes_a_large_file(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    with (directory / "large").open("wb") as file:
        for _ in range(1000):
            file.write(b"\x01" * (1 << 20))
    return result()


def loops(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    progress.stage("looping", step=1, steps=1)
    (directory / "pid").write_text(str(os.getpid()))
    while True:
        pass


def loops_in_threads(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=loops, args=(order, directory, progress)).start()
    time.sleep(1000)
    return result()


def computes(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """torch and ONNX Runtime with pools of two threads."""
    import numpy as np
    import onnxruntime
    import torch

    torch.set_num_threads(2)
    left = torch.randn(600, 600)
    product = left @ left
    session = onnxruntime.InferenceSession((directory / "model.onnx").read_bytes(), session_options())
    (again,) = session.run(None, {"x": left.numpy()})
    error = float(np.abs(again - product.numpy()).max())
    blas = float(np.abs(left.numpy() @ left.numpy() - product.numpy()).max())
    pool = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 2
    return result(notes=(f"{error < 1e-2}", f"{blas < 1e-2}", f"{torch.get_num_threads()}", f"{pool >= 2}"))


def session_options() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return options


def tries_to_get_out(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Every attempt under its name: how it was refused, or `succeeded`."""
    aim = json.loads((directory / "aim.json").read_text())
    attempts: dict[str, Callable[[], object]] = {
        "read a secret": lambda: Path(aim["secret"]).read_bytes(),
        "read another job": lambda: os.listdir(directory.parent),
        "read through /proc/self/root": lambda: Path("/proc/self/root" + aim["secret"]).read_bytes(),
        "write outside": lambda: Path(aim["secret"]).write_text("changed"),
        "make a file outside": lambda: (directory.parent / "new").touch(),
        "move a file out": lambda: (directory / "order.json").rename(directory.parent / "moved"),
        "delete outside": lambda: Path(aim["secret"]).unlink(),
        "truncate outside": lambda: os.truncate(aim["secret"], 0),
        "chmod outside": lambda: os.chmod(aim["secret"], 0o777),
        "chown outside": lambda: os.chown(aim["secret"], os.getuid(), os.getgid()),
        "utime outside": lambda: os.utime(aim["secret"], (0, 0)),
        "write to Python": lambda: Path(json.__file__).open("ab"),
        "fchmod Python": lambda: os.fchmod(os.open(json.__file__, os.O_RDONLY), 0o777),
        "connect to loopback": lambda: socket.create_connection(("127.0.0.1", aim["port"]), timeout=2),
        "connect by name": lambda: socket.create_connection(("localhost", aim["port"]), timeout=2),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix socket": lambda: socket.socket(socket.AF_UNIX).connect(aim["unix"]),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "socket pair": socket.socketpair,
        "run a program": lambda: subprocess.run(["/bin/true"]),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/pare-no-such-program", ["x"]),
        "fork": fork,
        "raw clone": lambda: syscall(56, signal.SIGCHLD, 0, 0, 0, 0),
        "clone3": lambda: syscall(435, 0, 0),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "signal the worker": lambda: os.kill(aim["worker"], 0),
        "signal the group": lambda: os.kill(0, 0),
        "signal everyone": lambda: os.kill(-1, 0),
        "tkill the worker": lambda: syscall(200, aim["worker"], 0),
        "tgkill the worker": lambda: syscall(234, aim["worker"], aim["worker"], 0),
        "queue a signal": lambda: syscall(129, aim["worker"], 0, ctypes.create_string_buffer(128)),
        "pidfd": lambda: os.pidfd_open(aim["worker"]),
        "ptrace the parent": lambda: syscall(101, 16, os.getppid(), 0, 0),
        "read the worker's memory": lambda: syscall(310, aim["worker"], 0, 0, 0, 0, 0),
        "the worker's environment": lambda: Path(f"/proc/{aim['worker']}/environ").read_bytes(),
        "the zygote's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "the worker's command line": lambda: Path(f"/proc/{aim['worker']}/cmdline").read_bytes(),
        "the worker's files": lambda: os.listdir(f"/proc/{aim['worker']}/fd"),
        "the list of processes": lambda: os.listdir("/proc"),
        "/etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "/etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "shared memory": lambda: Path("/dev/shm/x").touch(),
        "System V shared memory": lambda: syscall(29, 1234, 4096, 0o1666),
        "memfd": lambda: os.memfd_create("x"),
        "symlink": lambda: os.symlink("/etc", "link"),
        "hard link": lambda: os.link("order.json", "hard"),
        "fifo": lambda: os.mkfifo("fifo"),
        "mount": lambda: syscall(165, b"x", b"/tmp", b"tmpfs", 0, 0),
        "unshare": lambda: syscall(272, 0x10000000),
        "bpf": lambda: syscall(321, 0, 0, 0),
        "io_uring": lambda: syscall(425, 1, ctypes.create_string_buffer(128)),
        "keyctl": lambda: syscall(250, 0, 0, 0, 0, 0),
        "raise a limit": lambda: limit(resource.RLIMIT_NOFILE, 4096),
        "limit the worker": lambda: limit_of(aim["worker"]),
        "outlive the parent": lambda: syscall(157, 1, 0, 0, 0, 0),
        "own a pipe's signals": own_signals,
        "a system call of tomorrow": lambda: syscall(470),
    }
    tried = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            tried[name] = "succeeded"
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            tried[name] = type(error).__name__
    (directory / "out" / "tried.json").write_text(json.dumps(tried))
    (directory / "out" / "environ.json").write_text(json.dumps(dict(os.environ)))
    Path("out", "own-environ").write_bytes(Path("/proc/self/environ").read_bytes())
    Path("out", "files.json").write_text(json.dumps(open_files()))
    return result("tried.json", "environ.json", "own-environ", "files.json")


def syscall(*arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, value))


def limit_of(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_CORE, resource.prlimit(pid, resource.RLIMIT_CORE))


def own_signals() -> None:
    import fcntl

    reading, _ = os.pipe()
    fcntl.fcntl(reading, 8, 1)


def open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def writes_to_the_wire(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.write(WIRE, (directory / "lines").read_bytes())
    time.sleep(30)
    return result()


def floods_the_wire(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    line = b'{"kind":"progress","stage":"s","step":1,"steps":1,"fraction":0.5,"message":""}\n' * 500
    while True:
        os.write(WIRE, line)


def claims(order: WorkOrder, directory: Path, progress: Progress) -> None:
    """Writes `result.json` and the last line itself, as the test wants them."""
    os.write(WIRE, b'{"kind":"done"}\n')
    os._exit(0)


def talks_to_stderr(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(20_000):
        os.write(2, b"line %d\n" % number)
    return result()
