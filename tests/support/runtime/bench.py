"""Runs jobs of the tests' own in a sandbox, and keeps what their callers heard."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.spec.progress import JobProgress
from tests.support.runtime.orders import prepare
from tests.support.sizes import GIB, MIB
from worker.runtime.child_protocol import LogLine
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners, Outcome

LIMITS = Limits(wall_s=60, memory_bytes=2 * GIB, file_bytes=64 * MIB)
JOBS = "tests.support.runtime.jobs"


@dataclass
class Heard:
    """What the caller of a run heard."""

    progress: list[JobProgress] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)

    def text(self, source: str | None = None) -> str:
        return "\n".join(line.message for line in self.log if source in (None, line.source))


@dataclass
class Bench:
    """Runs the jobs of `tests.support.runtime.jobs` by name, each in a directory of its own."""

    job_sandbox: JobSandbox
    folder: Path
    heard: Heard = field(default_factory=Heard)

    def directory(self, name: str) -> Path:
        return prepare(self.folder / name)

    def run(
        self,
        job: str,
        *,
        directory: Path | None = None,
        limits: Limits = LIMITS,
        should_stop: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        self.heard = Heard()
        return self.job_sandbox.run(
            directory or self.directory(job),
            limits,
            Listeners(
                on_progress=self.heard.progress.append,
                on_log=self.heard.log.append,
                on_checkpoint=self.heard.checkpoints.append,
                should_stop=should_stop,
            ),
            entry=job if ":" in job else f"{JOBS}:{job}",
        )
