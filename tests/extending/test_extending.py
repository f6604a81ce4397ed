"""A job with a step, a metric, an observer and a target that the house does not have, from HTTP to its report.

The service takes the job as it takes any other; the engine carries out what the service stored. Between the two, in a
deployment, is a process of its own, whose tables are those of the source tree.
"""

import gzip
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.report.markdown import render_markdown
from app.spec.compatibility import CompatibilityOrder
from app.spec.data import DatasetSpec
from app.spec.job import JobSpec
from app.spec.work import WorkOrder, WorkResult
from tests.extending.toy_target import GzipTarget
from tests.support.engine.orders import data_file, outputs_of, signature_of, upload
from tests.support.files import npz_bytes, onnx_classifier
from worker.engine.compatibility import find_out
from worker.engine.data.rows import Rows
from worker.engine.job import run
from worker.engine.progress import Unheard

ROWS = DatasetSpec.model_validate({"splits": {"calibration": 0.5, "test": 0.5}})
STEPS = [{"type": "toy.round", "decimals": 2}, {"type": "quantize.static", "observer": "half"}]


@pytest.fixture
def body(model_id: str, dataset_id: str) -> dict:
    return {
        "model": model_id,
        "data": {"calibration": dataset_id, "test": dataset_id},
        "steps": STEPS,
        "targets": [{"format": "gzip", "level": 1}, {"format": "onnx"}],
        "evaluate": {
            "metrics": ["balanced"],
            "limits": {"max_drop": {"balanced": 1}},
            "latency": {"runs": 20, "budget_s": 1},
        },
    }


def order_for(spec: JobSpec, folder: Path) -> WorkOrder:
    (folder / "tiny.onnx").write_bytes(onnx_classifier())
    (folder / "rows.npz").write_bytes(npz_bytes())
    return WorkOrder(
        job="job_1",
        attempt=1,
        spec=spec,
        model=upload(folder, "tiny.onnx", signature_of(folder / "tiny.onnx")),
        data={role: data_file("rows.npz", ROWS, role) for role in ("calibration", "test")},
        threads=1,
    )


def weights_of(model: bytes | Path) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    return {weight.name: numpy_helper.to_array(weight) for weight in graph.graph.initializer}


def test_a_job_with_all_four(client: httpx.Client, body: dict, tmp_path: Path) -> None:
    submitted = client.post("/jobs", json=body)
    assert submitted.status_code == 202, submitted.text
    stored = JobSpec.model_validate(client.get(submitted.headers["Location"]).json()["spec"])
    order = WorkOrder.model_validate_json(order_for(stored, tmp_path).model_dump_json())

    result = WorkResult.model_validate_json(run(order, tmp_path, Unheard()).model_dump_json())

    packed, plain = result.report.targets
    rounded, quantized = result.report.steps
    assert rounded.facts["rounded"] > 0
    assert quantized.facts["observer"] == "half"
    assert packed.size.after_bytes == (tmp_path / "out" / "model-gzip-1.onnx.gz").stat().st_size
    for target in (packed, plain):
        (change,) = target.metrics
        assert change.metric == "balanced"
        assert change.drop_low <= change.drop <= change.drop_high
        assert any(reason.startswith("balanced accuracy ") for reason in target.reasons)
    shown = render_markdown(result.report)
    assert "Balanced accuracy" in shown
    assert "ONNX, compressed at level 1" in shown


def test_the_step_alone_rounds(body: dict, tmp_path: Path) -> None:
    order = order_for(JobSpec.model_validate(body | {"steps": STEPS[:1]}), tmp_path)
    run(order, tmp_path, Unheard())

    before = weights_of(tmp_path / "tiny.onnx")
    after = weights_of(gzip.decompress((tmp_path / "out" / "model-gzip-1.onnx.gz").read_bytes()))
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values.round(2))


def test_the_metric_is_what_it_says(body: dict, tmp_path: Path) -> None:
    order = order_for(JobSpec.model_validate(body | {"steps": []}), tmp_path)
    (change,) = run(order, tmp_path, Unheard()).report.targets[0].metrics

    ((inputs, labels),) = Rows.open(tmp_path, order.data["test"], ["x"]).batches(100)
    answers = outputs_of(tmp_path / "tiny.onnx", inputs)[0].argmax(axis=1)
    right = [(answers[labels == number] == number).mean() for number in np.unique(labels)]
    assert change.before == pytest.approx(np.mean(right))


def test_the_observer_takes_half(body: dict, tmp_path: Path) -> None:
    scales = []
    for observer in ("half", "minmax"):
        folder = tmp_path / observer
        folder.mkdir()
        steps = [{"type": "quantize.static", "observer": observer}]
        run(order_for(JobSpec.model_validate(body | {"steps": steps}), folder), folder, Unheard())
        scales.append(weights_of(folder / "out" / "model-onnx-x86.onnx")["x_scale"])

    assert scales[0] == pytest.approx(scales[1] / 2, rel=1e-6)


def test_what_a_delivered_file_makes_of_operators(tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(onnx_classifier())
    model = upload(tmp_path, "tiny.onnx", signature_of(tmp_path / "tiny.onnx"))

    found = find_out(CompatibilityOrder(targets=GzipTarget.variants(), model=model), tmp_path, Unheard())

    assert [one.target.label for one in found.tables] == ["gzip/1", "gzip/9"]
    assert all(row.status == "supported" for one in found.tables for row in one.operators)


def test_the_service_lists_and_checks_them(client: httpx.Client, body: dict) -> None:
    techniques = {entry["type"]: entry for entry in client.get("/techniques").json()}
    assert techniques["toy.round"]["parameters"]["properties"]["decimals"]["maximum"] == 6
    observer = techniques["quantize.static"]["parameters"]["properties"]["observer"]
    assert "half" in observer["enum"]
    assert "gzip" in {entry["format"] for entry in client.get("/targets").json()}
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"RoundWeights", "GzipTarget"} <= schemas.keys()

    for change, pointer in (
        ({"steps": [{"type": "toy.round", "decimals": 9}]}, "/steps/0/decimals"),
        ({"targets": [{"format": "gzip", "level": 2}]}, "/targets/0/level"),
        ({"steps": [{"type": "quantize.dynamic"}]}, "cannot be delivered for gzip/1"),
        ({"evaluate": {"limits": {"max_drop": {"balanced": 2}}}}, "/evaluate/limits"),
    ):
        answer = client.post("/jobs/validate", json=body | change)
        assert answer.status_code == 422, answer.text
        assert pointer in answer.text
