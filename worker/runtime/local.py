"""`python -m worker run job.json`: one job from files to files, without a database, a broker or a store.

Admission, the checks of a submission, the jail and the engine are the service's own.
"""

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from app.admission import admit_dataset, admit_model
from app.errors import PareError
from app.ids import new_id, public
from app.report import render_html, render_markdown, render_table
from app.report.text import one_line
from app.services.job_checks import DatasetFacts, check_job
from app.services.limits import shortfall
from app.services.matching import resolve_split
from app.settings import Settings
from app.spec.failure import Failure
from app.spec.job import JobSpec, Role
from app.spec.local import LocalDataset, LocalJob, LocalModel, read_local
from app.spec.pointers import pointer
from app.spec.progress import JobProgress
from app.spec.report import Report
from app.spec.work import DataFile, ModelFile, WorkOrder, WorkResult
from worker.engine.checkpoints import FOLDER as CHECKPOINTS
from worker.engine.toolchains.environments import Environments
from worker.runtime.agent_proxy import without_agents
from worker.runtime.attempt import require_safe
from worker.runtime.child_protocol import LogLine
from worker.runtime.errors import LocalFileMissing, LocalJobInvalid, Unforeseen
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners, Outcome
from worker.runtime.progress_throttle import ProgressThrottle
from worker.runtime.report_checks import require_own_report
from worker.runtime.results import OUT
from worker.runtime.untrusted_dir import UntrustedDir

WHOLE_STEP = "step-"
"""Begins the names of checkpoints that a step left when it was done."""
MESSAGE_SECONDS = 5.0
"""Between two lines about one stage."""


def run_file(description: Path, out: Path, settings: Settings) -> int:
    """Run the job that a file describes and write artifacts and report into `out`.

    Returns the exit code: 0 if the job succeeded and kept its limits, else 1. Raises what the service would answer.
    """
    started = time.monotonic()
    local = _described(description)
    with tempfile.TemporaryDirectory(prefix="pare-") as folder:
        directory = Path(folder, "job")
        directory.mkdir()
        order, warnings = lay_out(local, description.parent, directory, settings)
        for warning in warnings:
            _say(f"note: {warning}")
        console = _Console(directory, Path(folder, "kept"), max_bytes=settings.child_disk_bytes)
        outcome = _run_child(order, directory, Path(folder), settings, console)
        if not isinstance(outcome, WorkResult):
            console.leave(out, unforeseen=isinstance(outcome, Failure) and outcome.code == Unforeseen.code)
            return _failed(outcome)
        _write_result(outcome, directory / OUT, out)
    _say(f"\n{render_table(outcome.report)}")
    _say(f"written to {out} in {time.monotonic() - started:.0f} s: report.html, report.md, report.json, and")
    for artifact in outcome.artifacts:
        _say(f"  {artifact.file}")
    missed = shortfall(outcome.report)
    return 0 if missed is None else _failed(missed)


def lay_out(local: LocalJob, base: Path, directory: Path, settings: Settings) -> tuple[WorkOrder, tuple[str, ...]]:
    """Admit the files, which are relative to `base`, check the job, and copy them beside its order.

    Returns the order, also written to `order.json`, and what the job's owner should know. Raises what admission and
    the checks of a submission raise.
    """
    if local.spec.artifacts:
        raise LocalJobInvalid("Artifacts have ids in a service alone; submit this job there.", pointer="/artifacts")
    models = {name: _model(name, file, base, settings) for name, file in local.models.items()}
    datasets = {name: _dataset(name, file, base, settings) for name, file in local.datasets.items()}
    data = {role: datasets[ref.dataset] for role, ref in local.spec.data.refs().items()}
    others = {other: models[other] for step in local.spec.steps for other in step.models()}
    infos = {other: file.info for other, file in others.items()}
    spec, warnings = check_job(local.spec, models[local.spec.model].info, infos, data)
    paths = {name: file.path for files in (local.models, local.datasets) for name, file in files.items()}
    for name, path in paths.items():
        shutil.copyfile(base / path, directory / name)  # not linked: the job may write to what it is given
    order = WorkOrder(
        job=public("job", new_id()),
        attempt=1,
        spec=spec,
        model=models[spec.model],
        data={role: _data_file(role, spec, dataset) for role, dataset in data.items()},
        teachers=others,
        device="cuda" if spec.device == "cuda" else "cpu",
        threads=settings.threads,
    )
    (directory / "order.json").write_text(order.model_dump_json())
    return order, warnings


def _described(description: Path) -> LocalJob:
    try:
        document = json.loads(_there(description).read_text(encoding="utf-8"))
    except ValueError as error:
        raise LocalJobInvalid(f"{description.name} is no JSON: {error}.") from None
    if not isinstance(document, Mapping):
        raise LocalJobInvalid(f"{description.name} holds no JSON object.")
    try:
        return read_local(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise LocalJobInvalid(f"{first['msg']}.", pointer=pointer(first["loc"], document)) from None


def _there(file: Path) -> Path:
    if not file.is_file():
        raise LocalFileMissing(f"There is no file {file}.")
    return file


def _model(name: str, file: LocalModel, base: Path, settings: Settings) -> ModelFile:
    path = _there(base / file.path)
    info = admit_model(path, max_inflated_bytes=settings.max_upload_bytes, architecture=file.architecture)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return ModelFile(path=name, sha256=digest, bytes=path.stat().st_size, info=info)


def _dataset(name: str, file: LocalDataset, base: Path, settings: Settings) -> DatasetFacts:
    info = admit_dataset(_there(base / file.path), file.use, max_inflated_bytes=settings.max_upload_bytes)
    return DatasetFacts(id=name, spec=file.use, info=info)


def _data_file(role: Role, spec: JobSpec, dataset: DatasetFacts) -> DataFile:
    split = resolve_split(role, spec.data.refs()[role].split, dataset.info, dataset.spec)
    return DataFile(path=dataset.id, info=dataset.info, spec=dataset.spec, split=split)


def _run_child(order: WorkOrder, directory: Path, scratch: Path, settings: Settings, console: "_Console") -> Outcome:
    limits = Limits(order.spec.timeout_s, settings.child_memory_bytes, settings.child_disk_bytes)
    with JobSandbox(
        scratch / "job_sandbox",
        sandbox=settings.sandbox,
        threads=settings.threads,
        device=order.device,
        environments=Environments(settings.toolchains_dir),
    ) as job_sandbox:
        require_safe(order, job_sandbox)
        outcome = job_sandbox.run(
            directory,
            limits,
            Listeners(
                on_progress=console.on_progress,
                on_log=console.on_log,
                on_checkpoint=console.on_checkpoint,
                on_agent=without_agents(directory),
            ),
        )
    if isinstance(outcome, WorkResult):
        require_own_report(outcome.report, order)
    return outcome


class _Console:
    """Prints each stage, and within a long one where it is; sets aside what a failed job leaves behind."""

    def __init__(self, directory: Path, kept: Path, *, max_bytes: int) -> None:
        self._throttle = ProgressThrottle(MESSAGE_SECONDS)
        self._directory, self._kept, self._max_bytes = directory, kept, max_bytes
        self._log: list[LogLine] = []
        kept.mkdir()

    def on_progress(self, progress: JobProgress) -> None:
        self._throttle.add(progress)
        for due in self._throttle.due()[-1:]:
            _say(f"{due.overall:4.0%}  {due.stage}{': ' if due.message else ''}{due.message}")

    def on_log(self, line: LogLine) -> None:
        self._log.append(line)
        if line.source == "engine" and line.level != "error":
            _say(f"      {line.message}")

    def on_checkpoint(self, name: str) -> None:
        """Copy what the last whole step left: the job's own folder is deleted at its end."""
        copy = self._kept / name
        copy.unlink(missing_ok=True)
        if name.startswith(WHOLE_STEP):
            with contextlib.suppress(OSError), UntrustedDir(self._directory / CHECKPOINTS) as folder:
                folder.copy_out(name, copy, max_bytes=self._max_bytes)

    def leave(self, out: Path, *, unforeseen: bool) -> None:
        """Write the log and the last step's checkpoint into `out`; print the traceback of what has no code."""
        if unforeseen:
            for line in self._log:
                if line.level == "error":
                    print(one_line(line.message), file=sys.stderr)  # noqa: T201  # a command line's output
        out.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line.level}: {line.message}\n" for line in self._log)
        (out / "log.txt").write_text(text, encoding="utf-8")
        kept = sorted(self._kept.iterdir())
        for path in kept:
            shutil.copyfile(path, out / path.name)
        also = f" and what the last whole step left: {', '.join(path.name for path in kept)}" if kept else ""
        _say(f"written to {out}: log.txt{also}")


def _write_result(result: WorkResult, made: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for artifact in result.artifacts:
        shutil.copyfile(made / artifact.file, out / artifact.file)
    report: Report = result.report
    (out / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    (out / "report.html").write_text(render_html(report), encoding="utf-8")
    (out / "report.md").write_text(render_markdown(report), encoding="utf-8")


def _failed(outcome: object) -> int:
    if isinstance(outcome, Failure):
        print(f"{outcome.code}: {one_line(outcome.explanation)}", file=sys.stderr)  # noqa: T201
    return 1


def refused(error: PareError) -> str:
    """One line on what a job was refused for."""
    where = f" ({error.pointer})" if error.pointer else ""
    return f"{error.code}{where}: {one_line(error.explanation)}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a command line's output
