"""A job that tries to get out of the jail in every way we can think of, and writes down how each was refused.

Where an attempt succeeds, because a layer is broken, it leaves the machine as it was.
"""
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH110, PTH115, PTH208, PTH211  # the system calls are the point

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.spec.work import WorkOrder, WorkResult
from tests.support.runtime.orders import result
from worker.engine.progress import Progress

Attempts = dict[str, Callable[[], object]]
OUTSIDE = -100  # AT_FDCWD


def run(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    inherited = open_files()
    aim = json.loads((directory / "aim.json").read_text())
    attempts = files(aim, directory) | processes(aim) | network(aim) | powers(aim)
    if platform.machine() == "x86_64":
        attempts |= raw_system_calls(aim)
    tried = {name: outcome(attempt) for name, attempt in attempts.items()}
    out = directory / "out"
    (out / "tried.json").write_text(json.dumps(tried))
    (out / "environ.json").write_text(json.dumps(dict(os.environ)))
    (out / "own-environ").write_bytes(Path("/proc/self/environ").read_bytes())
    (out / "files.json").write_text(json.dumps(inherited))
    return result(order, "tried.json", "environ.json", "own-environ", "files.json")


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except ValueError:  # how `resource` reports EPERM
        return "EPERM"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "succeeded"


def files(aim: dict[str, Any], directory: Path) -> Attempts:
    secret, python = aim["secret"], json.__file__
    return {
        "read a secret": lambda: Path(secret).read_bytes(),
        "list the jobs": lambda: os.listdir(directory.parent),
        "read through /proc/self/root": lambda: Path("/proc/self/root" + secret).read_bytes(),
        "read through /proc/self/cwd": lambda: Path("/proc/self/cwd/../" + Path(secret).name).read_bytes(),
        "write outside": lambda: Path(secret).write_text("changed"),
        "append outside": lambda: os.open(secret, os.O_WRONLY | os.O_APPEND),
        "make a file outside": lambda: (directory.parent / "new").touch(),  # noqa: PLW0108  # lazily, as all others
        "make a folder outside": lambda: os.mkdir(directory.parent / "newer"),
        "move a file out": lambda: os.rename(directory / "order.json", directory.parent / "moved"),
        "move a file in": lambda: os.rename(secret, directory / "stolen"),
        "delete outside": lambda: os.unlink(secret),
        "truncate outside": lambda: os.truncate(secret, 0),
        "chmod outside": lambda: os.chmod(secret, 0o777),
        "chown outside": lambda: os.chown(secret, os.getuid(), os.getgid()),
        "utime outside": lambda: os.utime(secret, (0, 0)),
        "setxattr outside": lambda: os.setxattr(secret, "user.x", b"y"),
        "write to Python": lambda: os.open(python, os.O_WRONLY | os.O_APPEND),
        "fchmod Python": lambda: os.fchmod(os.open(python, os.O_RDONLY), Path(python).stat().st_mode),
        "/etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "/etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "the kernel's settings": lambda: Path("/proc/sys/kernel/core_pattern").read_bytes(),
        "shared memory files": lambda: os.listdir("/dev/shm"),
        "the temporary folder": lambda: os.listdir("/tmp"),
        "symlink": lambda: os.symlink("/etc", "symbolic"),
        "hard link": lambda: os.link("order.json", "hard"),
        "hard link outside": lambda: os.link(secret, "hard"),
        "fifo": lambda: os.mkfifo("fifo"),
        "a file without a name": lambda: os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600),
        "attributes of a file that may be read": lambda: _set_flags(python),
        "the host's connections": lambda: Path("/proc/self/net/tcp").read_bytes(),
        "the host's connections, of a thread": lambda: Path(f"/proc/self/task/{os.getpid()}/net/tcp").read_bytes(),
        "the host's mounts": lambda: Path("/proc/self/mountinfo").read_bytes(),
        "memory without a mapping": lambda: os.memfd_create("x"),
    }


def processes(aim: dict[str, Any]) -> Attempts:
    worker = aim["worker"]
    return {
        "run a program": lambda: subprocess.run(["/bin/true"], check=False),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/pare-no-such-program", ["x"]),
        "fork": fork,
        "signal the zygote": lambda: os.kill(os.getppid(), 0),
        "signal the worker": lambda: os.kill(worker, 0),
        "signal the group": lambda: os.kill(0, 0),
        "signal everyone": lambda: os.kill(-1, 0),
        "pidfd": lambda: os.pidfd_open(worker),
        "the worker's environment": lambda: Path(f"/proc/{worker}/environ").read_bytes(),
        "the zygote's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "the worker's command line": lambda: Path(f"/proc/{worker}/cmdline").read_bytes(),
        "the worker's files": lambda: os.listdir(f"/proc/{worker}/fd"),
        "the list of processes": lambda: os.listdir("/proc"),
        "renice the worker": lambda: os.setpriority(os.PRIO_PROCESS, worker, 19),
        "pin the worker to a core": lambda: os.sched_setaffinity(worker, [min(os.sched_getaffinity(0))]),
        "reschedule the worker": lambda: os.sched_setscheduler(worker, os.SCHED_OTHER, os.sched_param(0)),
    }


def network(aim: dict[str, Any]) -> Attempts:
    return {
        "connect to loopback": lambda: socket.create_connection(("127.0.0.1", aim["port"]), timeout=2),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "ipv6": lambda: socket.socket(socket.AF_INET6),
        "unix socket": lambda: socket.socket(socket.AF_UNIX).connect(aim["unix"]),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "socket pair": socket.socketpair,
    }


def powers(aim: dict[str, Any]) -> Attempts:
    worker, here = aim["worker"], resource.RLIMIT_NOFILE
    return {
        "raise a limit": lambda: resource.setrlimit(here, (4096, 4096)),
        "set a limit as it is": lambda: resource.setrlimit(here, resource.getrlimit(here)),
        "limit the worker": lambda: resource.prlimit(worker, here, aim["nofile"]),
        "have signals sent": lambda: fcntl.fcntl(os.pipe()[0], 8, 1),
        "chroot": lambda: os.chroot("."),
    }


def raw_system_calls(aim: dict[str, Any]) -> Attempts:
    """By their x86_64 numbers, written down a second time: the filter's own table is not believed."""
    worker = aim["worker"]
    return {
        "clone a process": lambda: syscall(56, 0x800 | signal.SIGCHLD, 0, 0, 0, 0),
        "clone a thread into a namespace": lambda: syscall(56, 0x40010000, 0, 0, 0, 0),
        "clone3": lambda: syscall(435, 0, 0),
        "execveat": lambda: syscall(322, OUTSIDE, b"/pare-no-such-program", 0, 0, 0),
        "tkill the worker": lambda: syscall(200, worker, 0),
        "tgkill the worker": lambda: syscall(234, worker, worker, 0),
        "queue a signal": lambda: syscall(129, worker, 0, ctypes.create_string_buffer(128)),
        "ptrace the zygote": lambda: syscall(101, 16, os.getppid(), 0, 0),
        "ptrace the worker": lambda: syscall(101, 0x4206, worker, 0, 0),
        "read the worker's memory": lambda: syscall(310, worker, 0, 0, 0, 0, 0),
        "write the worker's memory": lambda: syscall(311, worker, 0, 0, 0, 0, 0),
        "System V shared memory": lambda: syscall(29, 0x70617265, 4096, 0o600),
        "receive from a System V queue": lambda: syscall(70, 0, ctypes.create_string_buffer(64), 56, 0, 0o4000),
        "send to a System V queue": lambda: syscall(69, 0, ctypes.create_string_buffer(64), 1, 0o4000),
        "move a System V semaphore": lambda: syscall(65, 0, b"\0" * 6, 1),
        "move a System V semaphore in time": lambda: syscall(220, 0, b"\0" * 6, 1, 0),
        "open with unreadable flags": lambda: syscall(437, OUTSIDE, b".", ctypes.create_string_buffer(24), 24),
        "message queue": lambda: syscall(240, b"pare", 0, 0, 0),
        "mount": lambda: syscall(165, b"x", b"/pare-no-such-folder", b"tmpfs", 0, 0),
        "unshare": lambda: syscall(272, 0x10000000),
        "bpf": lambda: syscall(321, -1, 0, 0),
        "io_uring": lambda: syscall(425, 0, 0),
        "userfaultfd": lambda: syscall(323, -1),
        "perf": lambda: syscall(298, 0, 0, -1, -1, 0),
        "keyring": lambda: syscall(250, 0, -3, 0, 0, 0),
        "open by handle": lambda: syscall(304, OUTSIDE, 0, 0),
        "outlive the zygote": lambda: syscall(157, 1, 0, 0, 0, 0),
        "a system call of tomorrow": lambda: syscall(463, 0, 0, 0, 0, 0, 0),
    }


def syscall(*arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _set_flags(path: str) -> None:
    """Set a file's attributes (FS_IOC_SETFLAGS) to what they are."""
    with Path(path).open("rb") as file:
        flags = fcntl.ioctl(file, 0x80086601, bytes(8))
        fcntl.ioctl(file, 0x40086602, flags)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def open_files() -> list[str]:
    """What the child's descriptors are, the one that lists them left out."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(f"/proc/self/fd/{number}") for number in numbers if os.path.exists(f"/proc/self/fd/{number}")]
