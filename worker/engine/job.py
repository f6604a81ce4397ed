"""One job: open the model, take its steps, deliver for every target, measure what was delivered."""

import shutil
import time
from pathlib import Path

import torch

from app.spec.distill import Distill
from app.spec.finetune import FineTune
from app.spec.job import JobSpec, Role
from app.spec.prune import PruneChannels, PruneWeights
from app.spec.report import ModelSummary, Report, TargetReport, Verdict
from app.spec.work import ArtifactFile, WorkOrder, WorkResult
from worker.engine.checkpoints import FOLDER as CHECKPOINTS
from worker.engine.checkpoints import Checkpoints
from worker.engine.context import Context
from worker.engine.data.rows import SCRATCH, Rows
from worker.engine.delivery import OCTETS, deliver_all, stages_per_target
from worker.engine.measure import describe_machine
from worker.engine.model import Model, open_model
from worker.engine.progress import Progress
from worker.engine.steps import Taken, take_steps
from worker.engine.targets.base import ArtifactProvenance, ExportContext

OUT = "out"
WORST_FIRST: tuple[Verdict, ...] = ("unusable", "regressed", "unproven", "unchanged", "improved")
ON_PROGRAMS = (Distill, FineTune, PruneChannels, PruneWeights)
"""Steps that change a program as such."""
MEDIA_TYPES = {".json": "application/json", ".csv": "text/csv", ".txt": "text/plain"}
"""Of files that steps deliver. Python's own table is read from files that a jailed process may not open."""


def run(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Do the work of an order below `directory`; artifacts are written into its `out` folder.

    A missed limit is not an error here: it is in the report, beside the artifacts. Raises subclasses of `PareError`.
    """
    started = time.monotonic()
    torch.set_num_threads(order.threads)
    scratch = directory / SCRATCH
    scratch.mkdir(exist_ok=True)
    spec = order.spec
    stages = _Stages(progress, 1 + len(spec.steps) + stages_per_target(spec) * len(spec.targets))

    stages.begin("opening the model")
    inputs = [tensor.name for tensor in order.model.info.signature.inputs]
    data = {role: Rows.open(directory, file, inputs) for role, file in order.data.items()}
    original = open_model(
        order.model, directory, scratch, threads=order.threads, progress=progress, rows=_typical_rows(data)
    )
    if _needs_onnx(spec):
        original.graph  # noqa: B018  # what cannot be exported is refused now, not after hours of training
    model = original.as_program() if _needs_program(order) else original

    taken = _take_steps(order, original, model, data, directory, stages)
    out = directory / OUT
    out.mkdir(exist_ok=True)
    provenance = ArtifactProvenance(order.job, spec.recipe_sha256, order.model.sha256)
    context = ExportContext(
        original, provenance, directory, out, scratch, order.threads, progress, data.get("calibration")
    )
    delivered = deliver_all(
        order, context, taken.model, data, lambda name, number: stages.begin(name, 2 + len(spec.steps) + number)
    )
    report = Report(
        name=spec.name,
        job=order.job,
        recipe_sha256=spec.recipe_sha256,
        seed=spec.seed,
        verdict=_verdict(delivered.reports),
        model=ModelSummary(
            format=order.model.info.format,
            sha256=order.model.sha256,
            bytes=order.model.bytes,
            parameters=order.model.info.parameters,
            nodes=order.model.info.nodes,
        ),
        machine=describe_machine(),
        steps=taken.reports,
        targets=tuple(delivered.reports),
        failures=tuple(delivered.failures),
        notes=order.model.info.warnings,
        seconds=time.monotonic() - started,
    )
    return WorkResult(report=report, artifacts=(*delivered.artifacts, *_files(taken, directory)))


def _typical_rows(data: dict[Role, Rows]) -> Rows | None:
    """What the model is given in use, as far as the job says."""
    roles: tuple[Role, ...] = ("test", "calibration", "validation", "train")
    return next((data[role] for role in roles if role in data), None)


def _needs_onnx(spec: JobSpec) -> bool:
    """Whether a step or a target starts from the ONNX form of a program."""
    return any(not isinstance(step, ON_PROGRAMS) for step in spec.steps) or any(
        not target.needs_program for target in spec.targets
    )


class _Stages:
    """Counts the stages of a job."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.steps, self.step = progress, steps, 0

    def begin(self, name: str, step: int | None = None) -> None:
        """Begin the next stage, or stage number `step` where an earlier attempt did those before."""
        self.step = self.step + 1 if step is None else step
        self.progress.stage(name, step=self.step, steps=self.steps)


def _needs_program(order: WorkOrder) -> bool:
    """Whether a step or target works on a program: all others of the job do, too, so that names stay the same."""
    spec = order.spec
    delivers = any(target.needs_program for target in spec.targets) and not order.artifacts
    return delivers or any(step.requires().trainable_graph for step in spec.steps)


def _take_steps(
    order: WorkOrder, original: Model, model: Model, data: dict[Role, Rows], directory: Path, stages: _Stages
) -> Taken:
    scratch, spec = directory / SCRATCH, order.spec

    def teacher(model: str) -> Model:
        return open_model(order.teachers[model], directory, scratch, threads=order.threads, progress=stages.progress)

    context = Context(
        data,
        scratch,
        order.threads,
        spec.seed,
        stages.progress,
        device=order.device,
        original=original,
        teacher=teacher,
        targets=spec.targets,
    )
    checkpoints = Checkpoints(directory / CHECKPOINTS, stages.progress)
    for taken in take_steps(spec.steps, model, context, spec.recipe_sha256, checkpoints):
        if len(taken.reports) < len(spec.steps):
            stages.begin(spec.steps[len(taken.reports)].kind(), 2 + len(taken.reports))
    stages.step = 1 + len(spec.steps)
    return taken


def _files(taken: Taken, directory: Path) -> tuple[ArtifactFile, ...]:
    """What steps deliver beside the model, put with the other artifacts."""
    for name, path in taken.files.items():
        shutil.copyfile(path, directory / OUT / name)
    return tuple(
        ArtifactFile(file=name, kind="data", media_type=MEDIA_TYPES.get(Path(name).suffix, OCTETS))
        for name in taken.files
    )


def _verdict(reports: list[TargetReport]) -> Verdict:
    """The worst of those that were run; of all of them where none was."""
    run = [report for report in reports if report.status != "converted"] or reports
    return min((report.verdict for report in run), key=WORST_FIRST.index)
