"""Models that steps read besides the job's own: found at submission, kept from deletion, there when the job runs."""

import hashlib
from pathlib import Path
from typing import ClassVar

import pytest

from app.api.components import Components
from app.db import jobs
from app.db.tables import Model
from app.ids import NotFound, public
from app.services.errors import InUse
from app.spec.base import ModelId
from app.spec.failure import Failure
from app.spec.job import JobSpec
from app.spec.quantize import QuantizeDynamic
from app.spec.work import WorkOrder
from tests.support.files import onnx_classifier
from tests.support.runtime.fixed_child import FULL, WEAK, FixedSandbox, run_with, uploaded
from worker.runtime.job_sandbox import Limits, Listeners, Outcome


class Imitate(QuantizeDynamic):
    """A step that reads other models."""

    others: ClassVar[tuple[ModelId, ...]] = ()

    def models(self) -> tuple[ModelId, ...]:
        return self.others


def spec(model: ModelId, *others: ModelId) -> JobSpec:
    step = type("Imitate", (Imitate,), {"others": others})
    return JobSpec(model=model).model_copy(update={"steps": (step(),)})


class Orders(FixedSandbox):
    """Reads the order and the files it names."""

    def run(self, directory: Path, limits: Limits, listeners: Listeners, **options: object) -> Outcome:
        self.order = WorkOrder.model_validate_json((directory / "order.json").read_bytes())
        self.digests = {
            model: hashlib.sha256((directory / file.path).read_bytes()).hexdigest()
            for model, file in self.order.teachers.items()
        }
        return super().run(directory, limits, listeners, **options)


def test_the_order_names_each_other_model_and_its_file_is_there(parts: Components, tmp_path: Path) -> None:
    model, first, second = (uploaded(parts, tmp_path, seed=seed) for seed in range(3))
    job = parts.jobs.submit("t", spec(model, first, second, first), key=None)
    bench = Orders(FULL)
    run_with(parts, tmp_path, bench, job.id)

    assert bench.digests == {
        one: hashlib.sha256(onnx_classifier(seed=seed)).hexdigest() for seed, one in ((1, first), (2, second))
    }
    assert bench.order.teachers[second].sha256 == bench.digests[second]


def test_a_model_that_a_live_job_reads_is_not_deleted(parts: Components, tmp_path: Path) -> None:
    model, other = (uploaded(parts, tmp_path, seed=seed) for seed in range(2))
    job = parts.jobs.submit("t", spec(model, other), key=None)
    with pytest.raises(InUse):
        parts.library.delete(Model, "t", other)
    with parts.database.write() as session:
        assert jobs.request_cancel(session, job.id)

    parts.library.delete(Model, "t", other)


@pytest.mark.parametrize("owner", ["somebody-else", "t"])
def test_a_model_that_is_not_there_for_the_tenant_is_refused_at_its_step(
    parts: Components, tmp_path: Path, owner: str
) -> None:
    model, other = uploaded(parts, tmp_path, seed=0), uploaded(parts, tmp_path, seed=1, tenant=owner)
    if owner == "t":
        parts.library.delete(Model, "t", other)

    with pytest.raises(NotFound) as refused:
        parts.jobs.submit("t", spec(model, other), key=None)

    assert refused.value.pointer == "/steps/0"


def test_a_teacher_of_a_risky_format_needs_the_whole_jail(parts: Components, tmp_path: Path) -> None:
    model, other = uploaded(parts, tmp_path, seed=0), uploaded(parts, tmp_path, seed=1, model_format="pt2")
    job = parts.jobs.submit("t", spec(model, other), key=None)
    run_with(
        parts, tmp_path, FixedSandbox(WEAK, Failure(code="step.unknown", detail="It ran.", remedy="None.")), job.id
    )

    ended = parts.jobs.get("t", public("job", job.id))
    assert ended.error is not None
    assert ended.error["code"] == "worker.sandbox_too_weak"
