"""A job's process, from its fork to its end: tie to the parent, shed what was inherited, confine, work, report."""

import contextlib
import errno
import faulthandler
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from app.errors import PareError
from app.spec.base import Frozen
from app.spec.failure import MAX_DETAIL, MAX_REMEDY, Failure
from worker.engine.progress import Progress
from worker.runtime import jail
from worker.runtime.child_protocol import Done, Failed, Started
from worker.runtime.errors import OutOfDisk, OutOfMemory, SandboxUnavailable, Unforeseen
from worker.runtime.fork_protocol import Entry, Request, ToolchainCommand
from worker.runtime.jail import privileges, trial
from worker.runtime.redact import Scrubber
from worker.runtime.reporter import Reporter

MESSAGES_FD: Final = 3
"""The pipe to the parent that `child_protocol` is spoken on."""
NO_MEMORY: Final = ("can't allocate memory", "std::bad_alloc", "CUDA out of memory", "Failed to allocate memory")
"""How libraries word it that have no MemoryError: torch's CPU allocator, C++, torch's CUDA allocator, ONNX Runtime."""
NO_SPACE: Final = frozenset({"EFBIG", "ENOSPC", "EDQUOT"})

JobFunction = Callable[[Frozen, Path, Progress], Frozen]


def main(request: Request, messages: int, output: int, zygote: int) -> NoReturn:
    """Do what `request` asks and exit. `messages` and `output` are pipes; `zygote` is the process that forked this."""
    os.setsid()
    privileges.die_with(zygote)
    _forget_the_zygote(messages, output)
    directory = Path(request.directory)
    reporter = Reporter(MESSAGES_FD)
    with _reported(reporter, Scrubber(directory)):
        _enter(directory)
        _work(request, directory, reporter)
        reporter.send(Done())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(os.EX_OK)


def _work(request: Request, directory: Path, reporter: Reporter) -> None:
    act = _action(request, directory, reporter)
    layers = jail.confine(
        directory,
        request.limits,
        cuda=request.device == "cuda",
        environment=Path(request.work.environment) if isinstance(request.work, ToolchainCommand) else None,
    )
    if request.strict and not layers.all_applied:
        raise SandboxUnavailable(f"The job's process could not be confined: {'; '.join(layers.missing)}.")
    reporter.send(Started(layers=layers.summary))
    act(layers)


def _action(request: Request, directory: Path, reporter: Reporter) -> Callable[[jail.Layers], None]:
    """What to do once confined. Whatever it needs of ours is imported now: later it could not be read."""
    match request.work:
        case ToolchainCommand() as program:
            return lambda _: _become(program)
        case trial.Trial() as attempt:
            return lambda layers: _try(attempt, layers, request, directory)
        case Entry() as entry:
            job, order = entry_point(entry.function), order_class(entry.order)
            return lambda _: _do(job, order, directory, reporter)


def _do(job: JobFunction, order: type[Frozen], directory: Path, reporter: Reporter) -> None:
    result = job(order.model_validate_json((directory / "order.json").read_bytes()), directory, reporter)
    (directory / "result.json").write_text(result.model_dump_json(), encoding="utf-8")


def _become(program: ToolchainCommand) -> NoReturn:
    """Run the program in place of this process; it inherits the pipe to the parent and speaks for itself there."""
    for descriptor in (0, 1, 2, MESSAGES_FD):
        os.set_inheritable(descriptor, True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execve(program.command[0], program.command, environment)  # noqa: S606  # a toolchain of ours, no shell


def _try(attempt: trial.Trial, layers: jail.Layers, request: Request, directory: Path) -> None:
    report = trial.TrialReport(
        layers=layers,
        escapes=trial.attempt(attempt, directory, file_bytes=request.limits.file_bytes),
        devices=trial.devices(cuda=request.device == "cuda"),
    )
    (directory / trial.REPORT).write_text(report.model_dump_json(), encoding="utf-8")


def entry_point(name: str) -> JobFunction:
    """The function named `module:function`."""
    job: JobFunction = _imported(name)
    return job


def order_class(name: str) -> type[Frozen]:
    """The class named `module:class`."""
    order: type[Frozen] = _imported(name)
    return order


def _imported(name: str) -> Any:
    module, _, member = name.partition(":")
    return getattr(importlib.import_module(module), member)


def _forget_the_zygote(messages: int, output: int) -> None:
    """Keep standard streams and the pipe to the parent; close every other file, the zygote's connections among them."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    messages, output = os.dup(messages), os.dup(output)  # neither is a number that is about to be replaced
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2), (messages, MESSAGES_FD)):
        os.dup2(source, target, inheritable=False)
    os.closerange(MESSAGES_FD + 1, os.sysconf("SC_OPEN_MAX"))
    faulthandler.enable(sys.stderr)


def _enter(directory: Path) -> None:
    """Work in the job's directory, private to this user, and have libraries keep their own files there too."""
    privileges.first_to_go()
    os.umask(0o077)
    os.chdir(directory)
    home = directory / "home"
    home.mkdir(exist_ok=True)
    (directory / "out").mkdir(exist_ok=True)
    os.environ.update(HOME=str(home), TMPDIR=str(home), LOGNAME="pare", USER="pare")
    tempfile.tempdir = None


@contextlib.contextmanager
def _reported(reporter: Reporter, scrubber: Scrubber) -> Iterator[None]:
    """Turn whatever ends the job early into its last line, and exit."""
    try:
        yield
    except BrokenPipeError:
        os._exit(os.EX_IOERR)  # the parent has hung up; nobody is left to tell
    except BaseException as error:  # noqa: BLE001  # a job that calls sys.exit() must not pass for one that ended well
        reporter.trace(scrubber("".join(traceback.format_exception(error))))
        reporter.send(Failed(failure=failure(error, scrubber)))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(os.EX_SOFTWARE)


def failure(error: BaseException, scrubber: Callable[[str], str] = str) -> Failure:
    """The documented failure that stands for `error`; its texts hold no folder of this machine."""
    known = documented(error)
    detail = scrubber(_clean(known.detail))[:MAX_DETAIL]
    return Failure(code=known.code, detail=detail, remedy=scrubber(_clean(known.remedy))[:MAX_REMEDY])


def documented(error: BaseException) -> PareError:
    """`error` itself if it has a code; else the class of what is behind it."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError) or any(words in str(cause) for words in NO_MEMORY):
            return OutOfMemory("The job ran out of memory.")
        if isinstance(cause, OSError) and errno_name(cause) in NO_SPACE:
            return OutOfDisk("The job could not write a file: it is too large, or the disk is full.")
    if isinstance(error, PareError):
        return error
    return Unforeseen(f"{type(error).__name__}: {error}")


def errno_name(error: OSError) -> str:
    """`ENOSPC` and the like; empty where the error has no number."""
    return errno.errorcode.get(error.errno or 0, "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
