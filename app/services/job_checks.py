"""Whether a job can be done with its model and rows: told from what admission read of the files, before it waits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.services.applicability import check_steps
from app.services.errors import StepNotApplicable
from app.services.learning import check_teaching
from app.services.matching import check_batch, check_inputs, resolve_split
from app.services.scoring import check_metrics
from app.spec.base import ModelId
from app.spec.data import DatasetInfo, DatasetSpec
from app.spec.distill import Distill
from app.spec.job import JobSpec, Role
from app.spec.signature import ModelInfo


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set: its id, how its rows are to be used, what is in it."""

    id: str
    spec: DatasetSpec
    info: DatasetInfo


def check_job(
    spec: JobSpec, model: ModelInfo, others: Mapping[ModelId, ModelInfo], data: Mapping[Role, DatasetFacts]
) -> tuple[JobSpec, tuple[str, ...]]:
    """Require that every step, metric and target can work with the model, the others that steps read, and the rows.

    Returns the job, with the default metrics only where they can be measured, and what its owner should know. Raises
    `DataMismatch`, `NoBatchAxis`, `NeedsData`, `MetricNotMeasurable`, `StepNotApplicable`, `SplitUnknown`,
    `LabelsOutOfRange`, `TeacherUnfit`.
    """
    if not model.signature.inputs:
        raise StepNotApplicable(
            "The model has no inputs: what it computes never changes.",
            pointer="/model",
            remedy="Export the model with the tensors it is to work on as inputs.",
        )
    check_batch(model.signature)
    refs = spec.data.refs()
    splits = {role: resolve_split(role, refs[role].split, dataset.info, dataset.spec) for role, dataset in data.items()}
    infos = {role: dataset.info for role, dataset in data.items()}
    warnings = [
        *model.warnings,
        *_check_inputs(model, data),
        *check_steps(spec, model, infos),
        *_check_teachers(spec, model, others, infos),
        *_shared_with_test(data, splits),
    ]
    unmeasurable = check_metrics(spec, model, infos.get("test"))
    if unmeasurable is not None:
        warnings.append(f"No accuracy will be measured: {unmeasurable}.")
        spec = spec.model_copy(update={"evaluate": spec.evaluate.model_copy(update={"metrics": ()})})
    return spec, tuple(warnings)


def _check_inputs(model: ModelInfo, data: Mapping[Role, DatasetFacts]) -> Iterator[str]:
    for role, dataset in data.items():
        yield from check_inputs(role, model.signature, dataset.info, dataset.spec)


def _check_teachers(
    spec: JobSpec, model: ModelInfo, others: Mapping[ModelId, ModelInfo], data: Mapping[Role, DatasetInfo]
) -> Iterator[str]:
    for position, step in enumerate(spec.steps):
        check_teaching(step, model, others, data, f"/steps/{position}")
        if isinstance(step, Distill) and step.student is not None and position:
            yield f"Step {position + 1} trains a new network: what the steps before it change is lost."


def _shared_with_test(data: Mapping[Role, DatasetFacts], splits: Mapping[Role, str | None]) -> Iterator[str]:
    """Say which roles share rows with the test. Splits of one data set share none; all of its rows hold every split."""
    if "test" not in data:
        return
    tested = splits["test"]
    for role, dataset in data.items():
        if role == "test" or dataset.id != data["test"].id:
            continue
        if splits[role] == tested:
            yield f"'{role}' and 'test' are the same rows: what is measured on them is not held out."
        elif None in (splits[role], tested):
            whole, part = (role, "test") if splits[role] is None else ("test", role)
            yield (
                f"'{whole}' takes all rows of its data set, those of '{part}' among them: what is measured is not held "
                f"out. Declare a split for '{whole}', or name one in data.{whole}."
            )
