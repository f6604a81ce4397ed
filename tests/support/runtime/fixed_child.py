"""A runner whose child always answers the same."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from app.api.components import Components
from app.ids import public
from app.services.library import Arrival
from app.spec.base import ModelId
from app.spec.failure import Failure
from app.spec.job import JobSpec
from app.spec.signature import ModelInfo
from app.spec.work import WorkKind, WorkOrder, WorkResult
from tests.support.files import onnx_classifier
from worker.runtime.jail.level import JailLevel
from worker.runtime.job_sandbox import JobSandbox, Limits, Listeners, Outcome
from worker.runtime.runner import Runner

WEAK = JailLevel(rlimits=True, no_new_privs=True, landlock=0, seccomp=True, missing=("landlock: no such layer",))
FULL = JailLevel(rlimits=True, no_new_privs=True, landlock=5, seccomp=True)
ENDED = Failure(code="step.nothing_to_quantize", detail="The child was asked.", remedy="None.")


class FixedSandbox:
    """A job_sandbox of a given jail level whose child always answers the same."""

    def __init__(self, level: JailLevel, outcome: Callable[[WorkOrder], Outcome] = lambda _: ENDED) -> None:
        self.jail_level = level
        self.outcome = outcome

    def run(self, directory: Path, limits: Any, listeners: Listeners, **options: object) -> Outcome:
        outcome = self.outcome(WorkOrder.model_validate_json((directory / "order.json").read_bytes()))
        if isinstance(outcome, WorkResult):
            (directory / "out").mkdir()
            for file in outcome.artifacts:
                (directory / "out" / file.file).write_bytes(b"the same bytes every time")
        return outcome


def submitted(parts: Components, tmp_path: Path, model_format: str) -> UUID:
    """A queued job for a model of this format."""
    (tmp_path / "model").write_bytes(onnx_classifier())
    digest = hashlib.sha256(onnx_classifier()).hexdigest()
    model = parts.library.add_model("t", Arrival(tmp_path / "model", len(onnx_classifier()), digest, "m", {}))
    with parts.database.write() as session:
        info = ModelInfo.model_validate(model.info).model_copy(update={"format": model_format})
        model.info = info.model_dump(mode="json")
        session.merge(model)
    return parts.jobs.submit("t", JobSpec(model=f"mdl_{model.id.hex}"), key=None).id


def run_with(parts: Components, tmp_path: Path, bench: FixedSandbox, job_id: UUID) -> None:
    runner = Runner(
        parts.database, parts.store, bench, parts.settings, scratch=tmp_path, name="w", is_draining=lambda: False
    )
    runner.run(job_id)


@dataclass
class Sending:
    """The job_sandbox, with an entry of the tests' instead of the engine's."""

    job_sandbox: JobSandbox
    entry: str

    @property
    def jail_level(self) -> object:
        return self.job_sandbox.jail_level

    def run(self, directory: Path, limits: Limits, listeners: Listeners, *, kind: WorkKind) -> Outcome:
        return self.job_sandbox.run(
            directory, limits, listeners, kind=kind, entry=f"tests.support.runtime.jobs:{self.entry}"
        )


def uploaded(parts: Components, tmp_path: Path, *, seed: int, tenant: str = "t", model_format: str = "onnx") -> ModelId:
    content = onnx_classifier(seed=seed)
    (tmp_path / "model").write_bytes(content)
    arrival = Arrival(tmp_path / "model", len(content), hashlib.sha256(content).hexdigest(), "m", {})
    model = parts.library.add_model(tenant, arrival)
    with parts.database.write() as session:
        info = ModelInfo.model_validate(model.info).model_copy(update={"format": model_format})
        session.merge(model).info = info.model_dump(mode="json")
    return public("mdl", model.id)
