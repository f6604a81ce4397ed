"""Whether a job can be done with its model and rows: told from what admission read of the files, before it waits."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from app.services.applicability import check_steps
from app.services.errors import StepNotApplicable
from app.services.learning import check_teaching
from app.services.matching import check_batch, check_inputs, resolve_split
from app.services.scoring import check_metrics
from app.spec.base import ModelId
from app.spec.data import LABELS, DatasetInfo, DatasetSpec, labels_in
from app.spec.distill import Distill
from app.spec.job import JobSpec, Role
from app.spec.signature import ModelInfo


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set: its content, how its rows are to be used, what is in it."""

    id: str
    """Tells its file from others: the digest, or the path."""
    spec: DatasetSpec
    info: DatasetInfo

    def split_like(self, other: "DatasetFacts") -> bool:
        """Whether the same file would have the same rows in each split."""
        return (self.spec.splits, self.spec.seed) == (other.spec.splits, other.spec.seed)


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
    if data:
        check_batch(model.signature)
    refs = spec.data.refs()
    splits = {role: resolve_split(role, refs[role].split, dataset.info, dataset.spec) for role, dataset in data.items()}
    inputs = {tensor.name for tensor in model.signature.inputs}
    infos = {role: _labelled(dataset.info, inputs) for role, dataset in data.items()}
    warnings = [
        *model.warnings,
        *_check_inputs(model, data),
        *check_steps(spec, model, infos),
        *_check_teachers(spec, model, others, infos),
        *_shared_rows(data, splits),
    ]
    unmeasurable = check_metrics(spec, model, infos.get("test"))
    if unmeasurable is not None:
        warnings.append(f"No accuracy will be measured: {unmeasurable}.")
        spec = spec.model_copy(update={"evaluate": spec.evaluate.model_copy(update={"metrics": ()})})
    return spec, tuple(warnings)


def _check_inputs(model: ModelInfo, data: Mapping[Role, DatasetFacts]) -> Iterator[str]:
    for role, dataset in data.items():
        yield from check_inputs(role, model.signature, dataset.info, dataset.spec)


def _labelled(info: DatasetInfo, inputs: Collection[str]) -> DatasetInfo:
    """What the data set is to a model with these inputs: one named like the labels takes them for itself."""
    if LABELS not in info.arrays or labels_in(info.arrays, inputs):
        return info
    arrays = {name: array for name, array in info.arrays.items() if name != LABELS}
    return info.model_copy(update={"arrays": arrays, "label_range": None})


def _check_teachers(
    spec: JobSpec, model: ModelInfo, others: Mapping[ModelId, ModelInfo], data: Mapping[Role, DatasetInfo]
) -> Iterator[str]:
    for position, step in enumerate(spec.steps):
        check_teaching(step, model, others, data, f"/steps/{position}")
        if isinstance(step, Distill) and step.student is not None and position:
            yield f"Step {position + 1} trains a new network: what the steps before it change is lost."


HELD_OUT: tuple[tuple[Role, tuple[Role, ...], str], ...] = (
    ("test", ("calibration", "train", "validation"), "what is measured on them is not held out"),
    ("validation", ("train",), "the best epoch is chosen on rows that were learned"),
)
"""Roles whose rows are to be unseen, those that see rows before, and what follows where they share some."""


def _shared_rows(data: Mapping[Role, DatasetFacts], splits: Mapping[Role, str | None]) -> Iterator[str]:
    """Say which roles share rows that should not.

    Splits of one data set share none; all of its rows hold every split. The same file uploaded twice counts as one
    data set where its rows are split alike.
    """
    for unseen, seen, harm in HELD_OUT:
        for role in seen:
            if role not in data or unseen not in data:
                continue
            ours, theirs = data[role], data[unseen]
            if ours.id != theirs.id:
                continue
            if splits[role] == splits[unseen] and ours.split_like(theirs):
                yield f"'{role}' and '{unseen}' are the same rows: {harm}."
            elif not ours.split_like(theirs):
                yield f"'{role}' and '{unseen}' are one file with different splits, which share rows: {harm}."
            elif None in (splits[role], splits[unseen]):
                whole, part = (role, unseen) if splits[role] is None else (unseen, role)
                yield (
                    f"'{whole}' takes all rows of its data set, those of '{part}' among them: {harm}. Declare a split "
                    f"for '{whole}', or name one in data.{whole}."
                )
