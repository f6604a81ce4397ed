"""Real jobs in jailed children, and what they delivered."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from app.spec.report import Report, TargetReport
from app.spec.targets import ToolchainName
from app.spec.work import WorkOrder, WorkResult
from tests.support.toolchains import ENVIRONMENTS
from worker.runtime.child_protocol import LogLine
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners

LIMITS = Limits(wall_s=600, memory_bytes=8 << 30, file_bytes=4 << 30)


@dataclass(frozen=True)
class Done:
    """A finished job."""

    result: WorkResult
    folder: Path
    """Of its artifacts."""

    @property
    def report(self) -> Report:
        return self.result.report

    def target(self, label: str) -> TargetReport:
        (report,) = (target for target in self.report.targets if target.target.label == label)
        return report


def finished(job_sandbox: JobSandbox, order: WorkOrder, directory: Path) -> Done:
    """Do an order whose files lie in `directory`."""
    (directory / "order.json").write_text(order.model_dump_json())
    lines: list[LogLine] = []
    outcome = job_sandbox.run(directory, LIMITS, Listeners(on_log=lines.append))
    assert isinstance(outcome, WorkResult), (outcome, [line.message for line in lines])
    return Done(outcome, directory / "out")


def run_usage(folder: Path, name: ToolchainName, usage: str, ending: str) -> str:
    """Run the code of a USAGE.md with the toolchain's Python, in the artifact's folder, and `ending` after it."""
    code = (folder / usage).read_text().partition("```python\n")[2].partition("```")[0]
    python = ENVIRONMENTS.folder(name) / "bin" / "python"
    ran = subprocess.run(
        [python, "-I", "-c", code + ending], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
