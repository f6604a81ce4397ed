"""A job: a model, data, steps to take and targets to deliver for."""

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from app.spec.base import ArtifactId, Frozen, Labels, ModelId, Name
from app.spec.data import SplitName
from app.spec.evaluate import Evaluate
from app.spec.steps import AnyStep
from app.spec.targets import OnnxTarget, Target

DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9a-f]{32}$")]
Role = Literal["calibration", "train", "validation", "test"]


class DataRef(Frozen):
    """A data set, or one split of it."""

    dataset: DatasetId
    split: SplitName | None = Field(
        None, description="Left out: the split named like the role if the data set declares it, else all rows."
    )


class JobData(Frozen):
    """The data for each role: an id, or an id and a split."""

    calibration: DatasetId | DataRef | None = None
    train: DatasetId | DataRef | None = None
    validation: DatasetId | DataRef | None = None
    test: DatasetId | DataRef | None = None

    def refs(self) -> dict[Role, DataRef]:
        """The roles that are given, each as a full reference."""
        given: dict[Role, DatasetId | DataRef | None] = {
            "calibration": self.calibration,
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        return {
            role: DataRef(dataset=value) if isinstance(value, str) else value
            for role, value in given.items()
            if value is not None
        }


class JobSpec(Frozen):
    """The body of `POST /jobs`."""

    name: Name = "job"
    labels: Labels = Field(default_factory=dict)
    model: ModelId
    data: JobData = JobData()
    steps: tuple[AnyStep, ...] = Field((), max_length=16, description="Taken in order. None: a pure export.")
    artifacts: tuple[ArtifactId, ...] = Field(
        (), max_length=8, description="Delivered for this model earlier: evaluated as they are, in place of new ones."
    )
    targets: tuple[Target, ...] = Field(
        (OnnxTarget(),), min_length=1, max_length=8, description="Left out with `artifacts`: they have their own."
    )
    evaluate: Evaluate = Evaluate()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)
    timeout_s: int = Field(3600, ge=1, le=7 * 24 * 3600, description="Wall time of one attempt.")
    max_attempts: int = Field(3, ge=1, le=10, description="Attempts when a worker is lost.")

    @property
    def recipe_sha256(self) -> str:
        """SHA-256 of what decides the result besides model and data, as canonical JSON.

        That is steps, targets and seed; of delivered artifacts that are only evaluated, also which.
        """
        decides = {"steps", "targets", "seed", *(("artifacts",) if self.artifacts else ())}
        recipe = self.model_dump(mode="json", include=decides)
        return hashlib.sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @field_validator("steps")
    @classmethod
    def _plan_is_last(cls, steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
        for earlier, later in pairwise(steps):
            if earlier.makes_plan:
                raise ValueError(
                    f"{later.kind()} after {earlier.kind()}: what {earlier.kind()} finds out describes the weights "
                    "as they are, so it comes last; put the other step before it"
                )
        return steps

    @field_validator("artifacts")
    @classmethod
    def _each_artifact_once(cls, artifacts: tuple[ArtifactId, ...], info: ValidationInfo) -> tuple[ArtifactId, ...]:
        if len(set(artifacts)) != len(artifacts):
            raise ValueError("an artifact is listed twice")
        if artifacts and info.data.get("steps"):
            raise ValueError("delivered artifacts are evaluated as they are: leave the steps out")
        return artifacts

    @field_validator("targets")
    @classmethod
    def _each_target_once(cls, targets: tuple[Target, ...], info: ValidationInfo) -> tuple[Target, ...]:
        # Artifacts of several jobs may be for one target: comparing them is what they are named for.
        # Files are called after labels, so that what only a parameter tells apart would be written twice.
        labels = [target.label for target in targets]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice and not info.data.get("artifacts"):
            raise ValueError(f"a target is listed twice: {twice[0]}")
        return targets
