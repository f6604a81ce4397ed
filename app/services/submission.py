"""Everything that can be known to be wrong with a job before it is queued."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db import uploads, workers
from app.db.tables import Dataset, Model
from app.ids import NotFound, parse
from app.services.devices import check_devices
from app.services.errors import MetricNotMeasurable, NeedsData, StepNotApplicable
from app.services.evaluation import given, require_own_targets
from app.services.learning import asks_for_gpu, check_device, check_teaching, check_training
from app.services.matching import check_batch, check_inputs, resolve_split
from app.services.scoring import check_labels
from app.spec.base import ModelId
from app.spec.data import LABELS, ArraySpec, DatasetInfo, DatasetSpec
from app.spec.distill import Distill
from app.spec.job import JobSpec, Role
from app.spec.metrics import METRICS
from app.spec.signature import FLOATS, ModelInfo, TensorSpec
from app.spec.steps import AnyStep


@dataclass(frozen=True)
class Accepted:
    """What a job that passed every check will read, where it will run, and what its owner should know."""

    spec: JobSpec
    """The job as submitted, with the default metrics only where they can be measured."""
    model: Model
    others: dict[ModelId, Model]
    """Models that steps read besides it."""
    data: dict[Role, Dataset]
    queue: str
    warnings: tuple[str, ...]


def check(session: Session, tenant: str, spec: JobSpec) -> Accepted:
    """Find the job's model and data and require that every step, metric and target can work with them.

    The rows stay locked against deletion until the transaction ends. Raises `NotFound`, `ArtifactUnfit` and what
    `judge` raises.
    """
    model = _model(session, tenant, spec.model, "/model")
    others = {
        other: _model(session, tenant, other, f"/steps/{position}")
        for position, step in enumerate(spec.steps)
        for other in step.models()
    }
    data = {role: _dataset(session, tenant, role, ref.dataset) for role, ref in spec.data.refs().items()}
    if spec.artifacts:
        spec = require_own_targets(spec, given(session, tenant, spec))
    spec, warnings = judge(spec, model, others, data)
    warnings = (*warnings, *check_devices(session, tenant, spec))
    queue = _queue(session, spec)
    if queue == "cpu" and any(asks_for_gpu(step) for step in spec.steps):
        warnings = (*warnings, "mixed_precision will not be used: no live worker has a GPU.")
    return Accepted(spec, model, others, data, queue, warnings)


def judge(
    spec: JobSpec, model: Model, others: dict[ModelId, Model], data: dict[Role, Dataset]
) -> tuple[JobSpec, tuple[str, ...]]:
    """Require that every step, metric and target can work with what admission found; needs no database.

    Returns the job, with the default metrics only where they can be measured, and what its owner should know. Raises
    `DataMismatch`, `NoBatchAxis`, `NeedsData`, `MetricNotMeasurable`, `StepNotApplicable`, `SplitUnknown`,
    `LabelsOutOfRange`, `TeacherUnfit`.
    """
    info = ModelInfo.model_validate(model.info)
    if not info.signature.inputs:
        raise StepNotApplicable(
            "The model has no inputs: what it computes never changes.",
            pointer="/model",
            remedy="Export the model with the tensors it is to work on as inputs.",
        )
    check_batch(info.signature)
    warnings = [
        *info.warnings,
        *_check_data(spec, info, data),
        *_check_steps(spec, info, data),
        *_check_teachers(spec, info, others, data),
        *_check_overlap(spec, data),
    ]
    unmeasurable = _check_metrics(spec, info, data)
    if unmeasurable is not None:
        warnings.append(f"No accuracy will be measured: {unmeasurable}.")
        spec = spec.model_copy(update={"evaluate": spec.evaluate.model_copy(update={"metrics": ()})})
    return spec, tuple(warnings)


def no_worker(session: Session, queue: str) -> str | None:
    """Say so when nobody alive serves a queue."""
    if workers.serving(session, queue):
        return None
    return f"waiting: no live worker serves the queue '{queue}'"


def _model(session: Session, tenant: str, public_id: ModelId, pointer: str) -> Model:
    found = uploads.of(session, Model, tenant, parse("mdl", public_id), lock="use")
    if found is None:
        raise NotFound("There is no such model.", pointer=pointer)
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
        resolve_split(role, refs[role].split, contents, declared)
        yield from check_inputs(role, info.signature, contents, declared)


def _check_steps(spec: JobSpec, info: ModelInfo, data: dict[Role, Dataset]) -> Iterator[str]:
    for position, step in enumerate(spec.steps):
        pointer = f"/steps/{position}"
        _check_needs(step, info, data, pointer)
        check_device(step, spec.device, pointer)
        check_training(step, info, {role: DatasetInfo.model_validate(row.info) for role, row in data.items()}, pointer)
        for target in spec.targets:
            place = target.label
            if not target.supports(step.kind()):
                raise StepNotApplicable(f"{step.kind()} cannot be delivered for {place}.", pointer=pointer)
            if refused := sorted(one for one in step.demands() if not target.supports(one)):
                raise StepNotApplicable(
                    f"{step.kind()} cannot be delivered for {place}: it has no {refused[0]}.",
                    pointer=pointer,
                    remedy="Change the step's parameters, or put this target into a job of its own.",
                )
    _check_precision(spec, info)
    _check_targets(spec, info)
    _check_speed_limit(spec)
    if not spec.steps and not spec.artifacts:
        yield "The job has no steps: the model is only exported and measured."


def _check_teachers(
    spec: JobSpec, info: ModelInfo, others: dict[ModelId, Model], data: dict[Role, Dataset]
) -> Iterator[str]:
    rows = {role: DatasetInfo.model_validate(row.info) for role, row in data.items()}
    teachers = {other: ModelInfo.model_validate(row.info) for other, row in others.items()}
    for position, step in enumerate(spec.steps):
        check_teaching(step, info, teachers, rows, f"/steps/{position}")
        if isinstance(step, Distill) and step.student is not None and position:
            yield f"Step {position + 1} trains a new network: what the steps before it change is lost."


def _check_needs(step: AnyStep, info: ModelInfo, data: dict[Role, Dataset], pointer: str) -> None:
    needs = step.requires()
    if needs.calibration and "calibration" not in data:
        raise NeedsData(f"{step.kind()} measures on calibration data; the job names none.", pointer=pointer)
    if needs.train and "train" not in data:
        raise NeedsData(
            f"{step.kind()} trains the model; the job names no training data.",
            pointer=pointer,
            remedy="Name a data set, or a split of one, in `data.train`.",
        )
    learns_from: Role = "train" if needs.train else "calibration"
    if needs.labels and LABELS not in DatasetInfo.model_validate(data[learns_from].info).arrays:
        raise NeedsData(
            f"{step.kind()} learns from labels; the data in the role {learns_from} has no array '{LABELS}'.",
            pointer=pointer,
            remedy=f"Add the labels as '{LABELS}', or use distill without labels (alpha 1).",
        )
    if (needs.trainable_graph or needs.parameters) and info.format != "onnx" and not info.parameters:
        raise StepNotApplicable(
            f"{step.kind()} changes or trains parameters; the model has none: its weights are buffers or constants.",
            pointer=pointer,
            remedy="Make the weights nn.Parameter and export the module itself, neither frozen nor traced.",
        )
    if needs.trainable_graph and info.format == "onnx":
        raise StepNotApplicable(
            f"{step.kind()} changes or trains the model; an ONNX file holds no trainable graph.",
            pointer=pointer,
            remedy="Upload the model as .pt2 (torch.export.save).",
        )


def _check_precision(spec: JobSpec, info: ModelInfo) -> None:
    """Refuse to quantize a model of another precision than float32, which its inputs give away."""
    floats = {tensor.dtype for tensor in info.signature.inputs if tensor.dtype in FLOATS}
    if not floats or "float32" in floats:
        return
    for position, step in enumerate(spec.steps):
        if step.kind().startswith("quantize."):
            raise StepNotApplicable(
                f"{step.kind()} quantizes float32 weights; this model's inputs are {min(floats)}.",
                pointer=f"/steps/{position}",
                remedy="Export the model in float32: model.float() before the export.",
            )


def _check_speed_limit(spec: JobSpec) -> None:
    untimed = [target.label for target in spec.targets if not target.timed]
    if spec.evaluate.limits.min_speedup is not None and untimed:
        raise MetricNotMeasurable(
            f"No worker measures the speed of {untimed[0]}, so `min_speedup` would always be missed.",
            pointer="/evaluate/limits/min_speedup",
            remedy="Leave the limit out, or put this target into a job of its own.",
        )


def _check_targets(spec: JobSpec, info: ModelInfo) -> None:
    for position, target in enumerate(spec.targets):
        if target.needs_calibration and spec.data.calibration is None:
            raise NeedsData(
                f"{target.label} measures on calibration data; the job names none.", pointer=f"/targets/{position}"
            )
        if target.needs_program and info.format == "onnx":
            raise StepNotApplicable(
                f"{target.label} is made from a PyTorch program; the model is an ONNX file.",
                pointer=f"/targets/{position}",
                remedy="Upload the model as .pt2 (torch.export.save), or as weights with their architecture.",
            )
        last = target.last_opset
        if last is not None and info.opset is not None and info.opset > last:
            raise StepNotApplicable(
                f"The model has opset {info.opset}; {target.label} reads up to {last}.",
                pointer=f"/targets/{position}",
                remedy=f"Export the model with opset {last} or earlier.",
            )


def _check_metrics(spec: JobSpec, info: ModelInfo, data: dict[Role, Dataset]) -> str | None:
    """Why the metrics cannot be measured, if they are the default; raises an error where they were asked for."""
    asked = "metrics" in spec.evaluate.model_fields_set or bool(spec.evaluate.limits.max_drop)
    test = DatasetInfo.model_validate(data["test"].info) if "test" in data else None
    output = _judged_output(spec, info)
    for metric in spec.evaluate.metrics:
        if test is None or LABELS not in test.arrays:
            missing = "the job names no test data" if test is None else f"the test data has no labels '{LABELS}'"
            if asked:
                raise NeedsData(f"{metric} cannot be measured: {missing}.", pointer="/evaluate/metrics")
            return missing
        obstacle = METRICS[metric].obstacle(output, test.arrays[LABELS])
        if obstacle is not None:
            if asked:
                detail = f"{metric} cannot be measured: {obstacle.reason}."
                remedy = f"{obstacle.remedy}{_measurable(output, test.arrays[LABELS])}"
                raise MetricNotMeasurable(detail, pointer="/evaluate/metrics", remedy=remedy)
            return obstacle.reason
    if test is not None and any(METRICS[metric].numbers_classes for metric in spec.evaluate.metrics):
        check_labels(output, test, pointer="/data/test")
    return None


def _measurable(output: TensorSpec, labels: ArraySpec) -> str:
    """What could be asked for instead, as a sentence."""
    names = [metric.name for metric in METRICS.values() if metric.obstacle(output, labels) is None]
    return f" These labels allow: {', '.join(names)}." if names else ""


def _judged_output(spec: JobSpec, info: ModelInfo) -> TensorSpec:
    outputs = {one.name: one for one in info.signature.outputs}
    if spec.evaluate.output is None:
        return info.signature.outputs[0]
    if spec.evaluate.output not in outputs:
        raise MetricNotMeasurable(
            f"The model has no output '{spec.evaluate.output}'; its outputs are {', '.join(outputs)}.",
            pointer="/evaluate/output",
            remedy="Name one of them, or leave `evaluate.output` out: metrics judge the first.",
        )
    return outputs[spec.evaluate.output]


def _check_overlap(spec: JobSpec, data: dict[Role, Dataset]) -> Iterator[str]:
    """Say which roles share rows with the test. Splits of one data set share none; all of its rows hold every split."""
    if "test" not in data:
        return
    refs, splits = spec.data.refs(), {}
    for role, row in data.items():
        contents, declared = DatasetInfo.model_validate(row.info), DatasetSpec.model_validate(row.spec)
        splits[role] = row.id, resolve_split(role, refs[role].split, contents, declared)
    tested = splits.pop("test")
    for role, used in splits.items():
        if used == tested:
            yield f"'{role}' and 'test' are the same rows: what is measured on them is not held out."
        elif used[0] == tested[0] and None in (used[1], tested[1]):
            whole, part = (role, "test") if used[1] is None else ("test", role)
            yield (
                f"'{whole}' takes all rows of its data set, those of '{part}' among them: what is measured is not held "
                f"out. Declare a split for '{whole}', or name one in data.{whole}."
            )


def _queue(session: Session, spec: JobSpec) -> str:
    # Post-training steps run on ONNX Runtime's CPU kernels: only training has a use for a GPU, where there is one.
    if spec.device == "auto" and any(step.requires().train for step in spec.steps):
        return "cuda" if workers.serving(session, "cuda") else "cpu"
    return "cuda" if spec.device == "cuda" else "cpu"
