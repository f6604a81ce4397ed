"""A job is checked against what is known of its model and rows alone: no database, no rows of one."""

import pytest

from app.errors import PareError
from app.ids import new_id, public
from app.services.applicability import check_importable
from app.services.errors import NeedsData, SplitUnknown, StepNotApplicable
from app.services.job_checks import DatasetFacts, check_job
from app.spec.data import ArraySpec, DatasetInfo, DatasetSpec
from app.spec.job import JobSpec
from app.spec.signature import Dimension, ModelInfo, Signature, TensorSpec

MODEL = public("mdl", new_id())
ROWS = public("ds", new_id())
BATCH = Dimension(name="batch")
PROGRAM = ModelInfo(
    format="pt2",
    signature=Signature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(BATCH, 1, 8, 8)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=(BATCH, 10)),),
    ),
    parameters=100,
    nodes=3,
    operators={},
)
FACTS = DatasetFacts(
    id=ROWS,
    spec=DatasetSpec(splits={"calibration": 0.5, "test": 0.5}),
    info=DatasetInfo(
        format="npz",
        rows=100,
        arrays={
            "image": ArraySpec(dtype="float32", shape=(100, 1, 8, 8)),
            "y": ArraySpec(dtype="int64", shape=(100,)),
        },
        label_range=(0, 9),
    ),
)


def job(**changed: object) -> JobSpec:
    body = {
        "model": MODEL,
        "data": {role: {"dataset": ROWS} for role in ("calibration", "test")},
        "steps": [{"type": "quantize.static"}],
        "targets": [{"format": "onnx"}],
    }
    return JobSpec.model_validate(body | changed)


def warnings(spec: JobSpec, model: ModelInfo = PROGRAM, facts: DatasetFacts = FACTS) -> tuple[str, ...]:
    return check_job(spec, model, {}, dict.fromkeys(spec.data.refs(), facts))[1]


def refused(error: type[PareError], spec: JobSpec, model: ModelInfo = PROGRAM, facts: DatasetFacts = FACTS) -> str:
    with pytest.raises(error) as caught:
        warnings(spec, model, facts)
    return f"{caught.value.pointer}: {caught.value.detail}"


def test_a_sound_job_passes_without_a_word() -> None:
    assert warnings(job()) == ()


def test_rows_that_test_and_calibration_share_are_told() -> None:
    whole = DatasetFacts(FACTS.id, DatasetSpec(), FACTS.info)
    half = DatasetFacts(FACTS.id, DatasetSpec(splits={"test": 0.5}), FACTS.info)
    other = DatasetFacts(public("ds", new_id()), DatasetSpec(), FACTS.info)

    assert "are the same rows" in warnings(job(), facts=whole)[0]
    assert "'calibration' takes all rows of its data set" in warnings(job(), facts=half)[0]
    assert check_job(job(), PROGRAM, {}, {"calibration": other, "test": whole})[1] == ()


def test_rows_that_choose_the_best_epoch_are_not_those_that_train() -> None:
    spec = job(
        data={role: {"dataset": ROWS} for role in ("train", "validation")},
        steps=[{"type": "finetune", "epochs": 1}],
    )
    named = DatasetFacts(ROWS, DatasetSpec(splits={"train": 0.8, "val": 0.2}), FACTS.info)
    again = DatasetFacts(ROWS, DatasetSpec(splits={"train": 0.5, "validation": 0.5}), FACTS.info)
    whole = DatasetFacts(ROWS, DatasetSpec(), FACTS.info)

    assert "best epoch" not in " ".join(warnings(spec, facts=named)), "`val` is taken for validation"
    assert "'train' and 'validation' are the same rows: the best epoch" in " ".join(warnings(spec, facts=whole))
    others = check_job(spec, PROGRAM, {}, {"train": named, "validation": again})[1]
    assert "one file with different splits" in " ".join(others)


def test_an_input_called_like_the_labels_takes_their_array() -> None:
    def tensor(name: str) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=(BATCH, 4))

    signature = Signature(inputs=(tensor("x"), tensor("y")), outputs=(tensor("scores"),))
    model = PROGRAM.model_copy(update={"signature": signature})
    arrays = {name: ArraySpec(dtype="float32", shape=(100, 4)) for name in "xy"}
    facts = DatasetFacts(ROWS, FACTS.spec, FACTS.info.model_copy(update={"arrays": arrays, "label_range": None}))

    (warning,) = warnings(job(), model, facts)
    assert "has no labels" in warning
    trained = job(data={"train": {"dataset": ROWS}}, steps=[{"type": "finetune", "epochs": 1}])
    assert "has no array 'y'" in refused(NeedsData, trained, model, facts)


def test_a_split_that_is_not_there_is_refused_by_its_place() -> None:
    spec = job(data={"calibration": {"dataset": ROWS, "split": "train"}})

    assert refused(SplitUnknown, spec).startswith("/data/calibration/split: ")


def test_a_step_without_its_rows_is_refused_by_its_place() -> None:
    assert refused(NeedsData, job(data={})).startswith("/steps/0: ")


def test_a_step_that_trains_is_refused_for_a_file_that_no_program_can_be_made_of() -> None:
    reason = "NonZero 'found' cannot be imported."

    with pytest.raises(StepNotApplicable) as step:
        check_importable(job(steps=[{"type": "prune.channels"}]), reason)
    with pytest.raises(StepNotApplicable) as target:
        check_importable(job(targets=[{"format": "litert"}]), reason)

    assert step.value.pointer == "/steps/0"
    assert target.value.pointer == "/targets/0"
    assert step.value.detail.endswith(reason)
    check_importable(job(), reason)


def test_default_metrics_that_cannot_be_measured_are_left_out_and_told() -> None:
    spec, warnings = check_job(job(data={"calibration": {"dataset": ROWS}}), PROGRAM, {}, {"calibration": FACTS})

    assert spec.evaluate.metrics == ()
    assert warnings == ("No accuracy will be measured: the job names no test data.",)


def test_metrics_that_were_asked_for_are_not_left_out() -> None:
    spec = job(data={"calibration": {"dataset": ROWS}}, evaluate={"metrics": ["top1"]})

    assert refused(NeedsData, spec).startswith("/evaluate/metrics: ")
