"""Everything that can be known to be wrong with a job before it is queued."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import uploads, workers
from app.db.tables import Dataset, Model
from app.ids import NotFound, parse
from app.services.errors import NeedsData, StepNotApplicable
from app.services.matching import check_batch, check_inputs, check_labels, resolve_split
from app.spec.data import LABELS, DatasetInfo, DatasetSpec
from app.spec.job import JobSpec, Role
from app.spec.signature import ModelInfo
from app.spec.target import supports


@dataclass(frozen=True)
class Accepted:
    """What a job that passed every check will read, where it will run, and what its owner should know."""

    model: Model
    data: dict[Role, Dataset]
    queue: str
    warnings: tuple[str, ...]


def check(session: Session, tenant: str, spec: JobSpec) -> Accepted:
    """Find the job's model and data and require that every step, metric and target can work with them.

    The rows stay locked against deletion until the transaction ends. Raises `NotFound`, `DataMismatch`,
    `NoBatchAxis`, `NeedsData`, `StepNotApplicable`, `SplitUnknown`, `LabelsOutOfRange`.
    """
    model = _model(session, tenant, spec)
    info = ModelInfo.model_validate(model.info)
    if not info.signature.inputs:
        raise StepNotApplicable(
            "The model has no inputs: what it computes never changes.",
            pointer="/model",
            remedy="Export the model with the tensors it is to work on as inputs.",
        )
    check_batch(info.signature)
    data = {role: _dataset(session, tenant, role, ref.dataset) for role, ref in spec.data.refs().items()}
    warnings = [
        *info.warnings,
        *_check_data(spec, info, data),
        *_check_steps(spec, info),
        *_check_metrics(spec, data),
        *_check_overlap(spec, data),
    ]
    return Accepted(model, data, _queue(spec), tuple(warnings))


def no_worker(session: Session, queue: str) -> str | None:
    """Say so when nobody alive serves a queue."""
    if workers.serving(session, queue):
        return None
    return f"waiting: no live worker serves the queue '{queue}'"


def _model(session: Session, tenant: str, spec: JobSpec) -> Model:
    found = uploads.of(session, Model, tenant, parse("mdl", spec.model), lock="use")
    if found is None:
        raise NotFound("There is no such model.", pointer="/model")
    return found


def _dataset(session: Session, tenant: str, role: Role, public_id: str) -> Dataset:
    found = uploads.of(session, Dataset, tenant, parse("ds", public_id), lock="use")
    if found is None:
        raise NotFound("There is no such data set.", pointer=f"/data/{role}")
    return found


def _check_data(spec: JobSpec, info: ModelInfo, data: dict[Role, Dataset]) -> Iterator[str]:
    refs = spec.data.refs()
    for role, row in data.items():
        declared = DatasetSpec.model_validate(row.spec)
        contents = DatasetInfo.model_validate(row.info)
        resolve_split(role, refs[role].split, declared)
        yield from check_inputs(role, info.signature, contents, declared)
        if role == "test" and "mse" not in spec.evaluate.metrics:
            check_labels(role, info.signature, contents)


def _check_steps(spec: JobSpec, info: ModelInfo) -> Iterator[str]:
    refs = spec.data.refs()
    for position, step in enumerate(spec.steps):
        pointer = f"/steps/{position}"
        if step.needs.calibration and "calibration" not in refs:
            raise NeedsData(f"{step.type} measures ranges on calibration data; the job names none.", pointer=pointer)
        if step.needs.trainable_graph and info.format == "onnx":
            raise StepNotApplicable(
                f"{step.type} trains the model; an ONNX file holds no trainable graph.",
                pointer=pointer,
                remedy="Upload the model as .pt2 (torch.export.save).",
            )
        for target in spec.targets:
            if not supports(target, step.type):
                raise StepNotApplicable(
                    f"{step.type} cannot be delivered for {target.format}/{target.profile}.", pointer=pointer
                )
    if not spec.steps:
        yield "The job has no steps: the model is only exported and measured."


def _check_metrics(spec: JobSpec, data: dict[Role, Dataset]) -> Iterator[str]:
    asked = "metrics" in spec.evaluate.model_fields_set or bool(spec.evaluate.limits.max_drop)
    test = data.get("test")
    missing = None
    if test is None:
        missing = "the job names no test data"
    elif LABELS not in DatasetInfo.model_validate(test.info).arrays:
        missing = f"the test data has no labels '{LABELS}'"
    if missing and asked and spec.evaluate.metrics:
        raise NeedsData(f"{spec.evaluate.metrics[0]} cannot be measured: {missing}.", pointer="/evaluate/metrics")
    if missing:
        yield f"No accuracy will be measured: {missing}."


def _check_overlap(spec: JobSpec, data: dict[Role, Dataset]) -> Iterator[str]:
    seen: dict[tuple[UUID, str | None], str] = {}
    refs = spec.data.refs()
    for role, row in data.items():
        split = resolve_split(role, refs[role].split, DatasetSpec.model_validate(row.spec))
        twin = seen.setdefault((row.id, split), role)
        if twin != role and "test" in {twin, role}:
            yield f"'{twin}' and '{role}' are the same rows: what is measured on them is not held out."


def _queue(spec: JobSpec) -> str:
    # Post-training steps run on ONNX Runtime's CPU kernels: 'auto' has no use for a GPU until a step trains.
    return "cuda" if spec.device == "cuda" else "cpu"
