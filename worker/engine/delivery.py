"""Delivers a model for every target of a job, each measured on its own runtime; one that fails stops no other."""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import PareError
from app.spec.job import JobSpec, Role
from app.spec.report import TargetFailure, TargetReport
from app.spec.targets import OnnxTarget, Target
from app.spec.work import ArtifactFile, GivenArtifact, WorkOrder
from worker.engine.data.rows import Rows
from worker.engine.devices.matrix import try_devices
from worker.engine.devices.trial import Trial
from worker.engine.errors import EngineError
from worker.engine.measure import measure_target
from worker.engine.measure.comparison import Comparison, choose_rows
from worker.engine.model import Model
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.file import save
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.onnx.delivery import lower
from worker.engine.targets.table import FORMATS


class DeliveryFailed(EngineError):
    """A library gave up while a target was written or run, for a reason without a code of its own."""

    code = "target.failed"
    remedy = "Read the job's log for the place; deliver for another target, and report it as a bug."


OCTETS, MARKDOWN = "application/octet-stream", "text/markdown"


@dataclass
class Delivered:
    """What became of the targets, each list in their order."""

    reports: list[TargetReport] = field(default_factory=list)
    failures: list[TargetFailure] = field(default_factory=list)
    artifacts: list[ArtifactFile] = field(default_factory=list)

    def add(self, number: int, report: TargetReport, exported: Exported, out: Path) -> None:
        """Target `number` was measured; if this job has made it, its `USAGE.md` is written into `out`."""
        self.reports.append(report)
        if report.origin is not None:
            return
        usage = out / f"USAGE-{report.target.label.replace('/', '-')}.md"
        usage.write_text(exported.usage, encoding="utf-8")
        kinds = [*((file.name, OCTETS) for file in exported.files), (usage.name, MARKDOWN)]
        self.artifacts += [
            ArtifactFile(file=name, kind="data" if media == MARKDOWN else "model", media_type=media, target=number)
            for name, media in kinds
        ]


def stages_per_target(spec: JobSpec) -> int:
    """Written, measured, and tried on devices where the job names any."""
    return 3 if spec.evaluate.devices else 2


def deliver_all(
    order: WorkOrder, context: ExportContext, model: Model, data: dict[Role, Rows], begin: Callable[[str, int], None]
) -> Delivered:
    """Deliver, or open what was delivered earlier, and measure.

    `begin` hears the name of each stage and its number among the deliveries, from 0. Raises the first target's error
    if not a single one can be delivered.
    """
    delivered = Delivered()
    first: Exception | None = None
    stages = stages_per_target(order.spec)
    for number, target in enumerate(order.spec.targets):
        given = order.artifacts[number] if order.artifacts else None
        begin(f"{'opening' if given else 'writing'} {target.label}", stages * number)
        try:
            with _open(target, given, model, context) as exported:
                begin(f"measuring {target.label}", stages * number + 1)
                comparison = _comparison(order, target, exported, context, data)
                report = measure_target(comparison)
                report = report.model_copy(update={"origin": given.origin if given else None})
                if order.spec.evaluate.devices:
                    begin(f"trying {target.label} on devices", stages * number + 2)
                    as_onnx = None if given else _as_onnx(model)
                    trial = Trial(comparison, number, exported.files, report, context.directory, as_onnx)
                    report = report.model_copy(update={"devices": try_devices(trial)})
                delivered.add(number, report, exported, context.out)
        except MemoryError:
            raise  # it is the job's, not the target's
        except Exception as error:  # noqa: BLE001  # libraries raise what they like, and other targets go on
            first = first or error
            known = error if isinstance(error, PareError) else _unforeseen(error, context)
            context.progress.log(f"{target.label} is not delivered: {known.detail}", "warning")
            delivered.failures.append(TargetFailure.of(known, target=target))
    if first is not None and not delivered.reports:
        raise first
    return delivered


def _open(
    target: Target, given: GivenArtifact | None, model: Model, context: ExportContext
) -> AbstractContextManager[Exported]:
    """What the model becomes for the target, or the artifact that was given in its place."""
    if given is None:
        return FORMATS[type(target)].deliver(target, model, context)
    files = tuple(context.directory / file.path for file in given.files)
    return FORMATS[type(given.target)].reopen(given.target, files, context)


def _unforeseen(error: Exception, context: ExportContext) -> DeliveryFailed:
    context.progress.log("".join(traceback.format_exception(error)), "warning")
    return DeliveryFailed(f"It ended in {type(error).__name__}, of which the job's log has the place.")


def _comparison(
    order: WorkOrder, target: Target, exported: Exported, context: ExportContext, data: dict[Role, Rows]
) -> Comparison:
    original, seed = context.original, order.spec.seed
    rows, source = choose_rows(data.get("test"), data.get("calibration"), original.signature, seed)
    return Comparison(
        target=target,
        artifact=exported.files[0],
        runtime=exported.runtime,
        status=exported.status,
        exact=exported.exact,
        pure=exported.pure,
        steps=tuple(step.kind() for step in order.spec.steps),
        baseline=_baseline(target, original),
        reference=original.reference,
        signature=original.signature,
        rows=rows,
        row_source=source,
        evaluate=order.spec.evaluate,
        threads=order.threads,
        seed=seed,
        progress=context.progress,
    )


def _baseline(target: Target, original: Model) -> Path | None:
    """The original's ONNX form; None where it has none and the target does not ask for one. Raises `ExportFailed`."""
    try:
        return original.graph
    except ExportFailed:
        if not target.needs_program:
            raise
        return None


def _as_onnx(model: Model) -> Callable[[Path], Path]:
    """Writes what the model's plan makes of an ONNX file for ARM processors."""
    return lambda path: save(lower(OnnxTarget(profile="arm"), model), path)[0]
