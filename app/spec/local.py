"""A job described in one file: the body of `POST /jobs`, with files where that has ids.

    {
      "model": "digits.pt2",
      "datasets": {"digits": {"path": "digits.npz", "splits": {"train": 0.7, "test": 0.3}}},
      "data": {"train": "digits", "test": "digits"},
      "steps": [{"type": "distill", "teacher": "large.pt2"}]
    }

Where an id is expected there is a path, relative to the file, or a name that `models` or `datasets` declares: to say
what weights are of, or how rows are to be used. Everything else is the job's own fields.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter

from app.spec.architecture import Architecture
from app.spec.base import Frozen, ModelId
from app.spec.data import DatasetSpec
from app.spec.job import DatasetId, JobSpec
from app.spec.steps import STEPS

MODEL_PATTERN = TypeAdapter(ModelId).json_schema()["pattern"]


class LocalModel(Frozen):
    """A model's file and, where it holds weights only, what they are of."""

    path: str
    architecture: Architecture | None = None


class LocalDataset(DatasetSpec):
    """A data set's file, and how its rows are to be used."""

    path: str

    @property
    def use(self) -> DatasetSpec:
        """What the file is declared to be, without where it lies."""
        return DatasetSpec.model_validate(self.model_dump(exclude={"path"}))


class LocalFiles(Frozen):
    """What a description declares beside the job."""

    models: dict[str, LocalModel] = Field(default_factory=dict)
    datasets: dict[str, LocalDataset] = Field(default_factory=dict)


@dataclass(frozen=True)
class LocalJob:
    """A job, and the files that its ids stand for."""

    spec: JobSpec
    models: Mapping[ModelId, LocalModel]
    datasets: Mapping[DatasetId, LocalDataset]


def read_local(document: Mapping[str, Any]) -> LocalJob:
    """Take a description apart. Raises `pydantic.ValidationError`, with places in the description."""
    job = dict(document)
    declared = LocalFiles.model_validate({name: job.pop(name) for name in LocalFiles.model_fields if name in job})
    return _Reader(declared).read(job)


class _Reader:
    """Gives every file an id the first time it is met."""

    def __init__(self, declared: LocalFiles) -> None:
        self._declared = declared
        self._models: dict[str, LocalModel] = {}
        self._datasets: dict[str, LocalDataset] = {}

    def read(self, job: dict[str, Any]) -> LocalJob:
        if isinstance(job.get("model"), str):
            job["model"] = self._model(job["model"])
        if isinstance(job.get("data"), dict):
            job["data"] = {role: self._ref(ref) for role, ref in job["data"].items()}
        if isinstance(job.get("steps"), list):
            job["steps"] = [self._step(step) for step in job["steps"]]
        return LocalJob(JobSpec.model_validate(job), self._models, self._datasets)

    def _step(self, step: Any) -> Any:
        kinds = {kind.kind(): kind for kind in STEPS}
        kind = kinds.get(step.get("type", "")) if isinstance(step, dict) else None
        if kind is None:
            return step  # the job's own validation says what is wrong with it
        fields = kind.model_json_schema()["properties"]
        return {
            name: self._model(value) if isinstance(value, str) and _takes_model(fields.get(name, {}), value) else value
            for name, value in step.items()
        }

    def _ref(self, ref: Any) -> Any:
        if isinstance(ref, str):
            return self._dataset(ref)
        if isinstance(ref, dict) and isinstance(ref.get("dataset"), str):
            return {**ref, "dataset": self._dataset(ref["dataset"])}
        return ref

    def _model(self, name: str) -> str:
        file = self._declared.models.get(name) or LocalModel(path=name)
        return _met(self._models, f"mdl_{_digits(name)}", file)

    def _dataset(self, name: str) -> str:
        file = self._declared.datasets.get(name) or LocalDataset(path=name)
        return _met(self._datasets, f"ds_{_digits(name)}", file)


def _met(files: dict[str, Any], identity: str, file: LocalModel | LocalDataset) -> str:
    files[identity] = file
    return identity


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _takes_model(field: Mapping[str, Any], value: str) -> bool:
    """Whether a step's field is the id of a model, and `value` none of the words it may be instead."""
    forms = field.get("anyOf", [field])
    words = {word for form in forms for word in (form.get("const"), *form.get("enum", ()))}
    return value not in words and any(form.get("pattern") == MODEL_PATTERN for form in forms)
