"""Runs jobs in confined children and turns every way they can end into a value.

The caller's process holds the credentials and never imports a numeric library; see `worker.runtime.zygote` for the
process that does, `worker.runtime.child` for what a child does, and `worker.runtime.jail` for what it cannot.
"""

import logging
import os
import secrets
import socket
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from app.errors import PareError
from app.spec.failure import Failure
from app.spec.work import WorkKind, WorkResult
from worker.engine.toolchains.environments import Environments
from worker.runtime import results
from worker.runtime.child_messages import Listeners
from worker.runtime.child_monitor import ChildMonitor, EndedWell, Stopped
from worker.runtime.errors import DeviceUnavailable, NotStarted, SandboxUnavailable
from worker.runtime.fork_protocol import Entry, Request, ToolchainCommand
from worker.runtime.fork_server import ForkServer
from worker.runtime.jail import trial
from worker.runtime.jail.level import JailLevel
from worker.runtime.jail.limits import GIB, MIB, Limits
from worker.runtime.job_kinds import JOB_KINDS, Result
from worker.runtime.toolchain_host import ToolchainHost

__all__ = ["JailLevel", "JobSandbox", "Limits", "Listeners", "Outcome", "Stopped"]

log = logging.getLogger(__name__)

TRIAL_LIMITS: Final = Limits(wall_s=120, memory_bytes=4 * GIB, file_bytes=64 * MIB)
MAX_TRIAL_REPORT_BYTES: Final = 64 << 10

Outcome = Result | Failure | Stopped


class JobSandbox:
    """Owns the zygote. Use it as a context manager: entering starts the zygote and finds out how good the jail is."""

    def __init__(
        self,
        scratch: Path,
        *,
        sandbox: Literal["require", "best-effort"],
        threads: int,
        device: Literal["cpu", "cuda"] = "cpu",
        environments: Environments | None = None,
        entry: str = JOB_KINDS["compress"].entry,
    ) -> None:
        """Prepare to work below `scratch`, which is made if need be.

        `entry`: the `module:function` that does a submitted job; its module is loaded once for all children.
        `environments`: the toolchains that jobs may start; none unless given.
        """
        self._scratch = scratch.absolute()
        self._sandbox: Literal["require", "best-effort"] = sandbox
        self._device: Literal["cpu", "cuda"] = device
        self._environments = environments or Environments(self._scratch / "no-toolchains")
        self._entry = entry
        self._fork_server = ForkServer(self._scratch, entry, threads)
        self._level: JailLevel | None = None
        self._devices: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Start. Raises NotStarted, SandboxUnavailable (`require` only), DeviceUnavailable (`cuda` only)."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        try:
            self._fork_server.start()
            self._try_the_jail()
        except BaseException:
            self._fork_server.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the zygote and every child."""
        self._fork_server.close()

    @property
    def jail_level(self) -> JailLevel:
        """What holds a child in, as a child that tried to get out found it. Only after entering."""
        if self._level is None:
            raise NotStarted("The sandbox was not entered.")
        return self._level

    @property
    def devices(self) -> list[str]:
        """What a child can compute on: the CPU's model, then the names of CUDA devices. Only after entering."""
        return list(self._devices)

    @property
    def zygote_pid(self) -> int | None:
        """The process that children are forked from."""
        return self._fork_server.pid

    def run(
        self,
        directory: Path,
        limits: Limits,
        listeners: Listeners,
        *,
        kind: WorkKind = "compress",
        entry: str | None = None,
    ) -> Outcome:
        """Do the job in `directory` (`order.json` and its input files) and wait for its end, however it ends.

        Callbacks run in the calling thread; what they raise ends the job and reaches the caller. Several threads
        may run jobs at once. A result's artifacts are plain files in `directory/out`; whatever else the job left in
        folders is deleted, checkpoints included: a listener takes what it wants as it hears of it.
        """
        directory = directory.absolute()
        row = JOB_KINDS[kind]
        default = self._entry if kind == "compress" else row.entry
        order = f"{row.order.__module__}:{row.order.__qualname__}"
        request = self._request(directory, limits, Entry(function=entry or default, order=order))
        artifacts: set[str] = set()
        try:
            with ToolchainHost(directory, self._environments, partial(self._run_program, limits)) as toolchain_host:
                end = self._watched(request, replace(listeners, on_toolchain=toolchain_host.start))
            if not isinstance(end, EndedWell):
                return end
            result = results.read_result(
                directory, row.result, max_bytes=row.max_result_bytes, max_artifact_bytes=limits.file_bytes
            )
            if isinstance(result, WorkResult):
                artifacts = {artifact.file for artifact in result.artifacts}
            return result
        except PareError as error:
            return Failure.of(error)
        finally:
            _delete_leftovers(directory, artifacts)

    def _run_program(
        self, limits: Limits, folder: Path, command: list[str], environment: Path, listeners: Listeners
    ) -> EndedWell | Failure | Stopped:
        program = ToolchainCommand(command=tuple(command), environment=str(environment))
        return self._watched(self._request(folder, limits, program), listeners)

    def _request(self, directory: Path, limits: Limits, work: Entry | ToolchainCommand | trial.Trial) -> Request:
        return Request(
            directory=str(directory),
            limits=limits,
            device=self._device,
            # A trial is to report what is missing, not to refuse it.
            strict=self._sandbox == "require" and not isinstance(work, trial.Trial),
            work=work,
        )

    def _watched(self, request: Request, listeners: Listeners) -> EndedWell | Failure | Stopped:
        messages, messages_end = os.pipe()
        output, output_end = os.pipe()
        try:
            try:
                child = self._fork_server.fork(request, messages_end, output_end)
            finally:
                os.close(messages_end)
                os.close(output_end)
            is_toolchain = isinstance(request.work, ToolchainCommand)
            monitor = ChildMonitor(
                child,
                messages,
                output,
                Path(request.directory),
                request.limits,
                alone=self._level is not None and self._level.seccomp and not is_toolchain,
                subject="The toolchain" if is_toolchain else "The job",
            )
            try:
                return monitor.watch(listeners)
            finally:
                monitor.close()
        finally:
            os.close(messages)
            os.close(output)

    def _try_the_jail(self) -> None:
        with tempfile.TemporaryDirectory(prefix="trial-", dir=self._scratch) as folder, socket.socket() as listening:
            inside, outside = Path(folder, "inside"), Path(folder, "outside")
            inside.mkdir()
            outside.mkdir()
            (outside / "secret").write_text(secrets.token_hex())
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            attempt = trial.Trial(outside=outside, port=listening.getsockname()[1])
            report = self._tried(inside, attempt)
        self._level = JailLevel(**report.layers.model_dump(), escapes=report.escapes)
        self._devices = report.devices
        self._require(self._level)

    def _tried(self, inside: Path, attempt: trial.Trial) -> trial.TrialReport:
        lines: list[str] = []
        listeners = Listeners(on_log=lambda line: lines.append(line.message))
        end = self._watched(self._request(inside, TRIAL_LIMITS, attempt), listeners)
        if isinstance(end, EndedWell):
            return results.read_json(inside, trial.REPORT, trial.TrialReport, max_bytes=MAX_TRIAL_REPORT_BYTES)
        for line in lines:
            log.error("trial: %s", line)
        reason = end.detail if isinstance(end, Failure) else end.reason
        raise NotStarted(f"A first process could not be confined and tried: {reason}")

    def _require(self, level: JailLevel) -> None:
        if not level.complete:
            gaps = "; ".join([*level.missing, *(f"a job's process could {escape}" for escape in level.escapes)])
            if self._sandbox == "require":
                raise SandboxUnavailable(f"Jobs cannot be confined here: {gaps}.")
            log.warning("jobs are not fully confined, run only models you trust: %s", gaps)
        if self._device == "cuda" and len(self._devices) < 2:
            raise DeviceUnavailable("No CUDA device can be used from a job's process.")


def _delete_leftovers(directory: Path, artifacts: set[str]) -> None:
    """What cannot be deleted is not worth losing the outcome for."""
    try:
        results.delete_leftovers(directory, artifacts)
    except OSError as error:
        log.warning("a job's leftovers could not be deleted: %s", error.strerror)
