"""Jobs that train: what cannot be learned is refused when the job is submitted."""

import io
import json
import warnings
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from app.api.components import Components
from app.db import workers
from tests.api.conftest import OCTETS
from tests.files import npz_bytes


class Linear(nn.Linear):
    """Its input is called x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def exported(outputs: int = 3) -> bytes:
    """A program: x [batch, 4] to scores [batch, outputs]."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what it calls itself
        network = Linear(4, outputs).eval()
        program = torch.export.export(network, (torch.zeros(2, 4),), dynamic_shapes=({0: Dim("batch", max=512)},))
        torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture
def program_id(client: httpx.Client) -> str:
    answer = client.post("/models", params={"name": "program"}, content=exported(), headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def training_job(client: httpx.Client, model: str, step: dict[str, Any], **arrays: np.ndarray) -> httpx.Response:
    """Validate a job that trains a model on rows like these."""
    spec = json.dumps({"splits": {"train": 0.5, "validation": 0.2, "test": 0.3}})
    rows = client.post("/datasets", params={"name": "r", "spec": spec}, content=npz_bytes(**arrays), headers=OCTETS)
    assert rows.status_code == 201, rows.text
    data = dict.fromkeys(("train", "validation"), rows.json()["id"])
    return client.post("/jobs/validate", json={"model": model, "data": data, "steps": [{"type": "finetune"} | step]})


@pytest.mark.parametrize(
    ("step", "arrays"),
    [
        ({}, {}),
        ({"class_weights": [1, 2, 3]}, {"y": np.zeros((40, 1), np.uint8)}),
        ({"class_weights": "balanced"}, {}),
        ({}, {"y": np.full((40, 3), 7, np.int64)}),
        ({}, {"y": np.zeros((40, 3), np.float32)}),
    ],
)
def test_labels_that_can_be_learned_are_taken(client: httpx.Client, program_id: str, step: dict, arrays: dict) -> None:
    answer = training_job(client, program_id, step, **arrays)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("step", "arrays", "code", "pointer"),
    [
        ({}, {"y": np.full(40, 3)}, "data.labels_out_of_range", "/data/train"),
        ({}, {"y": np.zeros(40, np.float32)}, "step.not_applicable", "/data/train"),
        ({"class_weights": [1, 2]}, {}, "step.not_applicable", "/steps/0/class_weights"),
        ({"class_weights": "balanced"}, {"y": np.zeros((40, 3), np.float32)}, "step.not_applicable", "/steps/0/class"),
        ({"augment": [{"type": "random_flip"}]}, {}, "step.not_applicable", "/steps/0/augment"),
        ({"warmup_epochs": 10}, {}, "request.invalid", "/steps/0"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_its_place(
    client: httpx.Client, program_id: str, step: dict, arrays: dict, code: str, pointer: str
) -> None:
    answer = training_job(client, program_id, step, **arrays)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


def test_an_onnx_file_is_not_trained(client: httpx.Client, model_id: str) -> None:
    answer = training_job(client, model_id, {})

    assert (answer.status_code, answer.json()["code"]) == (422, "step.not_applicable")
    assert ".pt2" in answer.json()["remedy"]


def distillation(client: httpx.Client, model: str, **step: Any) -> httpx.Response:
    """Validate a job that distils, on rows with labels unless `alpha` is 1."""
    arrays = {"y": np.zeros(40, np.float32)} if step.get("alpha") == 1 else {}
    return training_job(client, model, {"type": "distill"} | step, **arrays)


def test_a_student_learns_from_another_model_of_either_format(
    client: httpx.Client, program_id: str, model_id: str
) -> None:
    for step in ({}, {"teacher": model_id}, {"teacher": program_id, "loss": "kd"}, {"alpha": 1}):
        answer = distillation(client, program_id, **step)
        assert answer.status_code == 200, answer.text


def test_a_teacher_that_is_not_there_is_named(client: httpx.Client, program_id: str) -> None:
    answer = distillation(client, program_id, teacher="mdl_" + "0" * 32)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (404, "/steps/0")


def test_a_teacher_of_other_classes_is_refused(client: httpx.Client, program_id: str) -> None:
    five = client.post("/models", params={"name": "five"}, content=exported(5), headers=OCTETS).json()["id"]

    answer = distillation(client, program_id, teacher=five)

    assert (answer.status_code, answer.json()["code"]) == (422, "distill.unfit")
    assert "5]" in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/steps/0/teacher"
    features = [{"student": "linear", "teacher": "linear"}]
    assert distillation(client, program_id, teacher=five, loss="features", features=features).status_code == 200


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"student": {"architecture": "torchvision:resnet18"}}, "distill.unfit"),
        ({"student": {"architecture": "torchvision:resnet17"}}, "architecture.unknown"),
        ({"loss": "features"}, "request.invalid"),
        ({"alpha": 0}, "request.invalid"),
    ],
)
def test_a_student_that_cannot_be_is_refused(client: httpx.Client, program_id: str, step: dict, code: str) -> None:
    answer = distillation(client, program_id, **step)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"].startswith("/steps/0")


def test_training_goes_to_a_gpu_where_one_is_served(
    client: httpx.Client, program_id: str, components: Components
) -> None:
    without = training_job(client, program_id, {}).json()
    with components.database.write() as session:
        workers.seen(session, "w", queue="cuda", facts={})
    asked = training_job(client, program_id, {}).json()
    untrained = client.post("/jobs/validate", json={"model": program_id, "steps": [{"type": "quantize.dynamic"}]})

    assert (without["queue"], asked["queue"], untrained.json()["queue"]) == ("cpu", "cuda", "cpu")
