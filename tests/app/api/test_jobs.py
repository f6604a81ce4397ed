"""Jobs over real HTTP, without a worker: what is accepted, refused, shown, canceled and retried."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from onnx import TensorProto
from sqlalchemy import update

from app.api.components import Components
from app.db import jobs
from app.db.tables import Model
from app.ids import parse
from app.spec.targets import OnnxTarget, TensorRtTarget
from tests.support.api import OCTETS, uploaded
from tests.support.files import npz_bytes
from tests.support.hostile.onnx_files import value
from worker.engine.targets.tensorrt.releases import RELEASES

TENSORRT = {"format": "onnx", "profile": "tensorrt"}


@pytest.fixture
def spec(model_id: str, dataset_id: str) -> dict:
    return {
        "name": "first",
        "labels": {"team": "edge"},
        "model": model_id,
        "data": {"calibration": dataset_id, "test": dataset_id},
        "steps": [{"type": "quantize.static"}],
    }


def test_a_job_is_queued_and_says_that_nobody_works(client: httpx.Client, spec: dict) -> None:
    answer = client.post("/jobs", json=spec)
    job = answer.json()

    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert job["status"] == "queued"
    assert job["stage"] == "waiting: no live worker serves the queue 'cpu'"
    assert client.get(f"/jobs/{job['id']}").json()["spec"]["steps"][0]["observer"] == "minmax"


def test_the_same_key_and_body_give_the_same_job(client: httpx.Client, spec: dict) -> None:
    headers = {"Idempotency-Key": "k-1"}
    with ThreadPoolExecutor(8) as pool:
        ids = {
            job.json()["id"] for job in pool.map(lambda _: client.post("/jobs", json=spec, headers=headers), range(8))
        }
    other = client.post("/jobs", json={**spec, "seed": 1}, headers=headers)

    assert len(ids) == 1
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.mismatch")
    assert client.post("/jobs", json=spec).json()["id"] not in ids
    assert len(client.get("/jobs").json()["data"]) == 2


def test_validate_answers_what_submit_would_and_queues_nothing(client: httpx.Client, spec: dict) -> None:
    fine = client.post("/jobs/validate", json=spec)
    bad = client.post("/jobs/validate", json={**spec, "data": {}})

    assert fine.json()["valid"] is True
    assert fine.json()["queue"] == "cpu"
    assert (bad.status_code, bad.json()["code"]) == (422, "step.needs_data")
    assert bad.json()["errors"][0]["pointer"] == "/steps/0"
    assert client.get("/jobs").json()["data"] == []


def test_test_rows_that_are_not_held_out_are_a_warning(client: httpx.Client, model_id: str) -> None:
    whole = client.post("/datasets", params={"name": "whole"}, content=npz_bytes(), headers=OCTETS).json()["id"]
    answer = client.post("/jobs/validate", json={"model": model_id, "data": {"calibration": whole, "test": whole}})

    assert any("not held out" in warning for warning in answer.json()["warnings"])


def test_rows_of_the_test_among_those_that_are_learned_from_are_a_warning(client: httpx.Client, model_id: str) -> None:
    spec = json.dumps({"splits": {"calibration": 0.5, "test": 0.5}})
    answer = client.post("/datasets", params={"name": "x", "spec": spec}, content=npz_bytes(), headers=OCTETS)
    rows = answer.json()["id"]

    def warnings(train: object) -> list[str]:
        body = {"model": model_id, "data": {"train": train, "test": rows}, "steps": []}
        return client.post("/jobs/validate", json=body).json()["warnings"]

    assert any("'train' takes all rows of its data set, those of 'test' among" in one for one in warnings(rows))
    assert not any("held out" in one for one in warnings({"dataset": rows, "split": "calibration"}))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "mdl_" + "0" * 32}, "resource.not_found"),
        ({"data": {"calibration": "ds_" + "0" * 32}}, "resource.not_found"),
        ({"data": {}}, "step.needs_data"),
        ({"unknown": 1}, "request.invalid"),
        ({"steps": [{"type": "prune.everything"}]}, "request.invalid"),
        ({"steps": [{"type": "quantize.static"}, {"type": "quantize.dynamic"}]}, "request.invalid"),
        ({"steps": [{"type": "quantize.static", "percentile": 20}]}, "request.invalid"),
        ({"targets": []}, "request.invalid"),
        ({"timeout_s": 0}, "request.invalid"),
        ({"labels": {"a b": "c"}}, "request.invalid"),
        ({"name": "two\nlines"}, "request.invalid"),
        ({"evaluate": {"limits": {"max_drop": {"top1": 1.5}}}}, "request.invalid"),
        ({"evaluate": {"limits": {"max_drop": {"mse": 0.1}}}}, "request.invalid"),
        (
            {"steps": [{"type": "quantize.dynamic"}], "targets": [TENSORRT]},
            "step.not_applicable",
        ),
        (
            {
                "steps": [{"type": "quantize.weights", "weights": "int3"}],
                "targets": [TENSORRT],
            },
            "step.not_applicable",
        ),
        ({"steps": [{"type": "quantize.weights", "method": "hqq", "symmetric": True}]}, "request.invalid"),
        (
            {"targets": [TENSORRT], "evaluate": {"limits": {"min_speedup": 2}}},
            "evaluate.not_measurable",
        ),
    ],
)
def test_a_wrong_spec_is_refused_with_its_place(client: httpx.Client, spec: dict, change: dict, code: str) -> None:
    answer = client.post("/jobs", json=spec | change)

    assert answer.status_code in {404, 422}
    assert answer.json()["code"] == code
    assert answer.json()["errors"][0]["pointer"].startswith("/")
    assert client.get("/jobs").json()["data"] == []


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.zeros((40, 5), np.float32)}, "data.mismatch"),
        ({"x": np.zeros((40, 4), np.float64)}, "data.mismatch"),
        ({"x": np.zeros((40, 2, 2), np.float32)}, "data.mismatch"),
        ({"y": np.full(40, 3)}, "data.labels_out_of_range"),
        ({"y": np.full(40, -1)}, "data.labels_out_of_range"),
    ],
    ids=["width", "dtype", "rank", "label above", "label below"],
)
def test_data_that_does_not_fit_the_model_is_refused(
    client: httpx.Client, model_id: str, arrays: dict[str, np.ndarray], code: str
) -> None:
    data = client.post("/datasets", params={"name": "d"}, content=npz_bytes(**arrays), headers=OCTETS)
    assert data.status_code == 201, data.text

    answer = client.post("/jobs", json={"model": model_id, "data": {"test": data.json()["id"]}})

    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([value("x", ["n", 4]), value("s", [])], "Input 's' has no batch axis"),
        ([value("x", [4])], "Input 'x' has no batch axis"),
        ([value("x", ["n", 4]), value("h", [2, "n", 4])], "2 in 'h' and dynamic in 'x'"),
        ([value("x", [2, 4]), value("h", [3, 4])], "2 in 'x' and 3 in 'h'"),
    ],
    ids=["scalar", "one fixed axis", "recurrent state", "two sizes"],
)
def test_inputs_without_a_common_batch_take_no_rows(client: httpx.Client, inputs: list, sentence: str) -> None:
    model = uploaded(client, inputs=inputs, outputs=[value("y", ["n", 4])])
    shapes = {one.name: [axis.dim_value or 1 for axis in one.type.tensor_type.shape.dim] for one in inputs}
    body = npz_bytes(**{name: np.zeros([40, *shape[1:]], np.float32) for name, shape in shapes.items()})
    data = client.post("/datasets", params={"name": "d"}, content=body, headers=OCTETS).json()["id"]

    answer = client.post("/jobs", json={"model": model, "data": {"test": data}})
    assert (answer.status_code, answer.json()["code"]) == (422, "model.no_batch_axis")
    assert sentence in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/model"
    weights_alone = {"model": model, "steps": [{"type": "quantize.weights"}]}
    assert client.post("/jobs/validate", json=weights_alone).status_code == 200


def test_one_dynamic_axis_is_a_batch(client: httpx.Client) -> None:
    model = uploaded(client, inputs=[value("x", ["n"])], outputs=[value("y", ["n"])])

    assert client.post("/jobs/validate", json={"model": model}).status_code == 200


def test_a_fixed_batch_needs_as_many_rows(client: httpx.Client) -> None:
    model = uploaded(client, inputs=[value("x", [41, 4])], outputs=[value("y", [41, 4])])
    enough, few = (
        client.post("/datasets", params={"name": "d"}, content=npz_bytes(rows), headers=OCTETS).json()["id"]
        for rows in (41, 40)
    )

    assert client.post("/jobs/validate", json={"model": model, "data": {"test": enough}}).status_code == 200
    answer = client.post("/jobs/validate", json={"model": model, "data": {"test": few}})
    assert (answer.status_code, answer.json()["code"]) == (422, "data.mismatch")
    assert "batches of 41; the data set has 40 rows" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("metric", "output", "labels", "reason", "remedy"),
    [
        ("top1", ["n", 3], np.zeros((40, 3), np.float32), "the labels are float32", "These labels allow: mse."),
        ("top1", ["n", 3], np.zeros((40, 3), np.int64), "a row of the labels has the shape [3]", "argmax"),
        ("top1", ["n", 6, 10], np.zeros(40, np.int64), "of shape [n, 6, 10], not scores", "scores of every class"),
        ("top1", ["n"], np.zeros(40, np.int64), "of shape [n], not scores", "argmax"),
        ("top1", ["n", 1], np.zeros(40, np.int64), "a single column", "two class scores"),
        ("top5", ["n", 3], np.zeros(40, np.int64), "with 3 classes every answer is right", "top1"),
        ("mse", ["n", 3], np.zeros((40, 4), np.float32), "[n, 3], a row of the labels [4]", "shaped like"),
        ("mse", [], np.zeros(40, np.float32), "has the shape []", "shaped like"),
    ],
)
def test_a_metric_that_cannot_be_measured_is_refused(
    client: httpx.Client, metric: str, output: list, labels: np.ndarray, reason: str, remedy: str
) -> None:
    spec = judged(client, output, labels)

    answer = client.post("/jobs", json=spec | {"evaluate": {"metrics": [metric]}})

    assert (answer.status_code, answer.json()["code"]) == (422, "evaluate.not_measurable")
    assert f"{metric} cannot be measured" in answer.json()["detail"]
    assert reason in answer.json()["detail"]
    assert remedy in answer.json()["remedy"]
    assert answer.json()["errors"][0]["pointer"] == "/evaluate/metrics"


@pytest.mark.parametrize(
    ("metric", "output", "labels"),
    [
        ("top1", ["n", 3], np.zeros((40, 1), np.uint8)),
        ("top1", ["n", "classes"], np.zeros(40, np.int64)),
        ("top5", ["n", 6], np.zeros(40, np.int64)),
        ("mse", ["n", 1], np.zeros(40, np.float32)),
        ("mse", ["n", 2, 3], np.zeros((40, 2, 3), np.float32)),
        ("mse", ["n", "steps", 3], np.zeros((40, 7, 3), np.float32)),
        ("mse", ["n", 3], np.full((40, 3), 9, np.int64)),
    ],
)
def test_a_metric_that_can_be_measured_is_kept(
    client: httpx.Client, metric: str, output: list, labels: np.ndarray
) -> None:
    answer = client.post("/jobs", json=judged(client, output, labels) | {"evaluate": {"metrics": [metric]}})

    assert answer.status_code == 202, answer.text
    assert answer.json()["spec"]["evaluate"]["metrics"] == [metric]


def test_class_numbers_are_checked_beside_another_metric(client: httpx.Client) -> None:
    spec = judged(client, ["n", 1, 1], np.zeros(40, np.int64)) | {"evaluate": {"metrics": ["mse"]}}
    classes = judged(client, ["n", 40], np.full((40, 1), 40)) | {"evaluate": {"metrics": ["top1", "top5"]}}

    assert client.post("/jobs/validate", json=spec).status_code == 200
    assert client.post("/jobs/validate", json=classes).json()["code"] == "data.labels_out_of_range"


def test_a_default_metric_that_cannot_be_measured_is_a_warning(client: httpx.Client, model_id: str) -> None:
    """The worker is not asked for it, and a retry does not take the default for a wish."""
    regression = judged(client, ["n", 3], np.zeros((40, 3), np.float32))
    for spec, reason in ((regression, "the labels are float32"), ({"model": model_id}, "names no test data")):
        said = client.post("/jobs/validate", json=spec).json()["warnings"]
        job = client.post("/jobs", json=spec).json()
        client.post(f"/jobs/{job['id']}/cancel")

        assert any("No accuracy will be measured" in one and reason in one for one in said)
        assert job["spec"]["evaluate"]["metrics"] == []
        assert client.post(f"/jobs/{job['id']}/retry").json()["status"] == "queued"


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE], ids=["float16", "float64"])
def test_only_float32_models_are_quantized(client: httpx.Client, dtype: int) -> None:
    shape = ["n", 4]
    model = uploaded(client, inputs=[value("x", shape, dtype)], outputs=[value("y", shape, dtype)])
    mixed = uploaded(client, inputs=[value("x", shape), value("h", shape, dtype)], outputs=[value("y", shape)])
    steps = [{"type": "quantize.dynamic"}]
    answer = client.post("/jobs/validate", json={"model": model, "steps": steps})

    assert (answer.status_code, answer.json()["code"]) == (422, "step.not_applicable")
    assert "float32" in answer.json()["remedy"]
    assert answer.json()["errors"][0]["pointer"] == "/steps/0"
    assert client.post("/jobs/validate", json={"model": model}).status_code == 200
    assert client.post("/jobs/validate", json={"model": mixed, "steps": steps}).status_code == 200


def test_a_target_reads_no_newer_opset(client: httpx.Client) -> None:
    last = OnnxTarget(profile="tensorrt").last_opset
    shape = ["n", 4]
    older, newer = (
        uploaded(client, inputs=[value("x", shape)], outputs=[value("y", shape)], opset=opset)
        for opset in (last, last + 1)
    )
    targets = [{"format": "onnx", "profile": "x86"}, {"format": "onnx", "profile": "tensorrt"}]
    answer = client.post("/jobs/validate", json={"model": newer, "targets": targets})

    assert (answer.status_code, answer.json()["code"]) == (422, "step.not_applicable")
    assert answer.json()["errors"][0]["pointer"] == "/targets/1"
    assert client.post("/jobs/validate", json={"model": newer, "targets": targets[:1]}).status_code == 200
    assert client.post("/jobs/validate", json={"model": older, "targets": targets}).status_code == 200


def test_targets_that_would_write_the_same_file_are_refused(client: httpx.Client) -> None:
    model = uploaded(client, inputs=[value("x", ["n", 4])], outputs=[value("y", ["n", 4])])
    targets = [{"format": "triton"}, {"format": "triton", "name": "b"}]
    answer = client.post("/jobs/validate", json={"model": model, "targets": targets})

    assert answer.status_code == 422
    assert "triton/onnx" in answer.text


@pytest.mark.parametrize("made_from_programs", ["litert", "torchscript", "executorch"])
def test_a_target_made_from_programs_refuses_onnx_of_which_none_can_be_made(
    made_from_programs: str, client: httpx.Client, components: Components
) -> None:
    model = uploaded(client, inputs=[value("x", ["n", 4])], outputs=[value("y", ["n", 4])])
    targets = [{"format": "onnx"}, {"format": made_from_programs}]
    assert client.post("/jobs/validate", json={"model": model, "targets": targets}).status_code == 200
    with components.database.write() as session:
        shown = {"status": "ready", "not_imported": "NonZero 'found' cannot be imported."}
        session.execute(update(Model).where(Model.id == parse("mdl", model)).values(inspection=shown))
    answer = client.post("/jobs/validate", json={"model": model, "targets": targets})

    assert (answer.status_code, answer.json()["code"]) == (422, "step.not_applicable")
    assert answer.json()["errors"][0]["pointer"] == "/targets/1"
    assert "NonZero 'found'" in answer.text


@pytest.mark.parametrize("step", [{"type": "quantize.weights"}, {"type": "share_weights", "clusters": 16}])
def test_executorch_refuses_weights_that_no_kernel_unpacks(step: dict[str, object], client: httpx.Client) -> None:
    model = uploaded(client, inputs=[value("x", ["n", 4])], outputs=[value("y", ["n", 4])])
    answer = client.post(
        "/jobs/validate", json={"model": model, "steps": [step], "targets": [{"format": "executorch"}]}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "step.not_applicable")
    assert f"{step['type']} cannot be delivered for executorch" in answer.text


def test_a_target_that_measures_by_itself_needs_calibration_data(client: httpx.Client) -> None:
    model = uploaded(client, inputs=[value("x", ["n", 4])], outputs=[value("y", ["n", 4])])
    answer = client.post("/jobs/validate", json={"model": model, "targets": [{"format": "openvino", "nncf": "full"}]})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/targets/0"
    assert "calibration" in answer.text


def test_the_service_and_the_worker_know_the_same_last_opset() -> None:
    assert OnnxTarget(profile="tensorrt").last_opset == RELEASES["trt10"].last_opset
    assert {name: TensorRtTarget(profile=name).last_opset for name in RELEASES} == {
        name: release.last_opset for name, release in RELEASES.items()
    }


def test_a_model_in_training_mode_is_a_warning(client: httpx.Client, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.export.export(network.train(), (torch.randn(8, 4),))
        torch.export.save(program, tmp_path / "train.pt2")
    content = (tmp_path / "train.pt2").read_bytes()
    model = client.post("/models", params={"name": "m"}, content=content, headers=OCTETS).json()["id"]

    answer = client.post("/jobs/validate", json={"model": model, "steps": [{"type": "quantize.dynamic"}]})

    assert any("eval()" in warning for warning in answer.json()["warnings"])


def test_an_array_the_model_does_not_know_is_a_warning(client: httpx.Client, model_id: str) -> None:
    body = npz_bytes(extra=np.zeros(40, np.float32))
    data = client.post("/datasets", params={"name": "d"}, content=body, headers=OCTETS).json()["id"]

    answer = client.post("/jobs/validate", json={"model": model_id, "data": {"test": data}})

    assert any("'extra'" in warning for warning in answer.json()["warnings"])


def test_a_split_that_is_not_declared_is_refused(client: httpx.Client, model_id: str, dataset_id: str) -> None:
    data = {"test": {"dataset": dataset_id, "split": "holdout"}}
    answer = client.post("/jobs", json={"model": model_id, "data": data})

    assert answer.json()["code"] == "data.split_unknown"
    assert "calibration, test" in answer.json()["detail"]


def test_cancel_and_retry_move_a_waiting_job(client: httpx.Client, spec: dict) -> None:
    job = client.post("/jobs", json=spec).json()["id"]

    assert client.post(f"/jobs/{job}/retry").json()["code"] == "job.not_ended"
    assert client.post(f"/jobs/{job}/cancel").json()["status"] == "canceled"
    assert client.post(f"/jobs/{job}/cancel").json()["code"] == "job.ended"
    assert client.post(f"/jobs/{job}/retry").json()["status"] == "queued"
    assert client.get("/jobs", params={"status": "queued"}).json()["data"][0]["id"] == job
    assert client.get("/jobs", params={"status": "canceled"}).json()["data"] == []


def test_a_job_that_succeeded_is_not_retried_but_submitted_anew(
    client: httpx.Client, components: Components, spec: dict
) -> None:
    job = client.post("/jobs", json=spec).json()["id"]
    with components.database.write() as session:
        row = parse("job", job)
        assert jobs.claim(session, row, worker="w", queue="cpu", lease_s=60)
        assert jobs.succeed(session, row, 1, report={}, artifacts=[])

    answer = client.post(f"/jobs/{job}/retry")

    assert (answer.status_code, answer.json()["code"]) == (409, "job.not_ended")
    assert "new job" in answer.json()["remedy"]


def test_events_are_paged_streamed_and_resumed(client: httpx.Client, spec: dict) -> None:
    job = client.post("/jobs", json=spec).json()["id"]
    client.post(f"/jobs/{job}/cancel")
    page = client.get(f"/jobs/{job}/events").json()
    stream = client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}).text
    resumed = client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "1"}).text

    assert [one["data"]["status"] for one in page["data"]] == ["queued", "canceled"]
    assert page["ended"] is True
    assert client.get(f"/jobs/{job}/events", params={"after": page["next"]}).json()["data"] == []
    assert _statuses(stream) == ["queued", "canceled"]
    assert _statuses(resumed) == ["canceled"]


def test_there_is_no_report_before_the_end(client: httpx.Client, spec: dict) -> None:
    job = client.post("/jobs", json=spec).json()["id"]

    assert client.get(f"/jobs/{job}/report").json()["code"] == "job.not_ended"
    assert client.get(f"/jobs/{job}/report", headers={"Accept": "image/png"}).status_code == 406
    assert client.get(f"/jobs/{job}/artifacts").json() == []
    assert client.get(f"/jobs/{job}/logs").text == ""


@pytest.mark.parametrize("path", ["/jobs/{}", "/jobs/{}/events", "/jobs/{}/report", "/jobs/{}/logs", "/artifacts/{}"])
@pytest.mark.parametrize("name", ["job_" + "0" * 32, "art_" + "0" * 32, "x", "job_../../etc", "job_" + "G" * 32])
def test_an_id_that_names_nothing_is_a_404(client: httpx.Client, path: str, name: str) -> None:
    answer = client.get(path.format(name))

    assert answer.status_code == 404
    assert answer.json()["code"] in {"resource.not_found", "request.no_such_path"}


def judged(client: httpx.Client, output: list, labels: np.ndarray) -> dict:
    """A job on a model with this output, tested against these labels."""
    model = uploaded(client, inputs=[value("x", ["n", 4])], outputs=[value("out", output)])
    data = client.post("/datasets", params={"name": "d"}, content=npz_bytes(y=labels), headers=OCTETS)
    assert data.status_code == 201, data.text
    return {"model": model, "data": {"test": data.json()["id"]}}


def _statuses(stream: str) -> list[str]:
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(line)["data"]["status"] for line in lines]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"steps": [{"type": "quantize.static", "observer": "x"}]}, "/steps/0/observer"),
        ({"data": {"test": "ds_1"}}, "/data/test"),
        ({"labels": {"a b": "c"}}, "/labels/a b"),
        ({"targets": [{"format": "onnx", "profile": "x"}]}, "/targets/0/profile"),
        ({"nmae": "x"}, "/nmae"),
    ],
)
def test_a_wrong_field_is_pointed_at_in_the_body_that_was_sent(
    client: httpx.Client, spec: dict, change: dict, pointer: str
) -> None:
    answer = client.post("/jobs", json=spec | change)

    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert client.post("/jobs", json={"name": "x"}).json()["errors"][0]["pointer"] == "/model"
    assert client.post("/jobs", json=[]).json()["errors"][0]["pointer"] == ""
