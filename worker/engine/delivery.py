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
from worker.engine.errors import DeliveryFailed
from worker.engine.measure import measure_target
from worker.engine.measure.target import choose_rows
from worker.engine.model import Model
from worker.engine.onnx_graph.file import save
from worker.engine.targets.base import ExportContext, Exported
from worker.engine.targets.onnx.delivery import lower
from worker.engine.targets.table import FORMATS

OCTETS, MARKDOWN = "application/octet-stream", "text/markdown"


@dataclass
class Delivered:
    """What became of the targets, each list in their order."""

    reports: list[TargetReport] = field(default_factory=list)
    failures: list[TargetFailure] = field(default_factory=list)
    artifacts: list[ArtifactFile] = field(default_factory=list)

    def add(self, number: int, report: TargetReport, delivery: Exported, out: Path) -> None:
        """Target `number` was measured; if this job has made it, its `USAGE.md` is written into `out`."""
        self.reports.append(report)
        if report.origin is not None:
            return
        usage = out / f"USAGE-{report.target.label.replace('/', '-')}.md"
        usage.write_text(delivery.usage, encoding="utf-8")
        kinds = [*((file.name, OCTETS) for file in delivery.files), (usage.name, MARKDOWN)]
        self.artifacts += [
            ArtifactFile(file=name, kind="data" if media == MARKDOWN else "model", media_type=media, target=number)
            for name, media in kinds
        ]


def stages_per_target(spec: JobSpec) -> int:
    """Written, measured, and tried on devices where the job names any."""
    return 3 if spec.evaluate.devices else 2


def deliver_all(
    order: WorkOrder, site: ExportContext, model: Model, data: dict[Role, Rows], begin: Callable[[str, int], None]
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
            with _opened(given, site) if given else FORMATS[type(target)].deliver(target, model, site) as delivery:
                begin(f"measuring {target.label}", stages * number + 1)
                report = _measured(order, target, delivery, site, data)
                report = report.model_copy(update={"origin": given.origin if given else None})
                if order.spec.evaluate.devices:
                    begin(f"trying {target.label} on devices", stages * number + 2)
                    report = _tried(order, number, None if given else model, delivery, report, site, data)
                delivered.add(number, report, delivery, site.out)
        except MemoryError:
            raise  # it is the job's, not the target's
        except Exception as error:  # noqa: BLE001  # libraries raise what they like, and other targets go on
            first = first or error
            known = error if isinstance(error, PareError) else _unforeseen(error, site)
            site.progress.log(f"{target.label} is not delivered: {known.detail}", "warning")
            delivered.failures.append(TargetFailure.of(known, target=target))
    if first is not None and not delivered.reports:
        raise first
    return delivered


def _opened(given: GivenArtifact, site: ExportContext) -> AbstractContextManager[Exported]:
    return FORMATS[type(given.target)].reopen(
        given.target, tuple(site.directory / file.path for file in given.files), site
    )


def _unforeseen(error: Exception, site: ExportContext) -> DeliveryFailed:
    site.progress.log("".join(traceback.format_exception(error)), "warning")
    return DeliveryFailed(f"It ended in {type(error).__name__}, of which the job's log has the place.")


def _measured(
    order: WorkOrder, target: Target, delivery: Exported, site: ExportContext, data: dict[Role, Rows]
) -> TargetReport:
    return measure_target(
        target=target,
        runtime=delivery.runtime,
        artifact=delivery.files[0],
        status=delivery.status,
        exact=delivery.exact,
        baseline=site.original.graph,
        reference=site.original.reference,
        test=data.get("test"),
        calibration=data.get("calibration"),
        evaluate=order.spec.evaluate,
        signature=site.original.signature,
        threads=order.threads,
        seed=order.spec.seed,
        progress=site.progress,
    )


def _tried(
    order: WorkOrder,
    number: int,
    model: Model | None,
    delivery: Exported,
    report: TargetReport,
    site: ExportContext,
    data: dict[Role, Rows],
) -> TargetReport:
    """The report with what became of the artifact on each device; `model`: what it was made from, if this job did."""
    original, seed = site.original, order.spec.seed
    rows, _ = choose_rows(data.get("test"), data.get("calibration"), original.signature, seed)
    trial = Trial(
        target=report.target,
        number=number,
        files=delivery.files,
        runtime=delivery.runtime,
        report=report,
        baseline=original.graph,
        reference=original.reference,
        signature=original.signature,
        rows=rows,
        evaluate=order.spec.evaluate,
        threads=order.threads,
        seed=seed,
        directory=site.directory,
        progress=site.progress,
        as_onnx=None if model is None else lambda path: save(lower(OnnxTarget(profile="arm"), model), path)[0],
    )
    return report.model_copy(update={"devices": try_devices(trial)})
