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
from tests.support.api import OCTETS
from tests.support.files import npz_bytes


class Linear(nn.Linear):
    """Its input is called x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


class Heads(nn.Module):
    """Scores of three classes, and of seven tokens among five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.sort, self.tokens = nn.Linear(4, 3), nn.Linear(4, 7 * 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.sort(x), self.tokens(x).reshape(-1, 7, 5)


class Sorts(nn.Module):
    """Scores of two classes, and of five."""

    def __init__(self) -> None:
        super().__init__()
        self.two, self.five = nn.Linear(4, 2), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.two(x), self.five(x)


def exported(network: nn.Module) -> bytes:
    """A program that takes x [batch, 4]."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what it calls itself
        program = torch.export.export(
            network.eval(), (torch.zeros(2, 4),), dynamic_shapes=({0: Dim("batch", max=512)},)
        )
        torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture
def program_id(client: httpx.Client) -> str:
    """Scores of three classes."""
    return uploaded(client, Linear(4, 3))


def uploaded(client: httpx.Client, network: nn.Module) -> str:
    answer = client.post("/models", params={"name": "program"}, content=exported(network), headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def training_job(
    client: httpx.Client, model: str, step: dict[str, Any], device: str = "auto", **arrays: np.ndarray
) -> httpx.Response:
    """Validate a job that trains a model on rows like these."""
    spec = json.dumps({"splits": {"train": 0.5, "validation": 0.2, "test": 0.3}})
    rows = client.post("/datasets", params={"name": "r", "spec": spec}, content=npz_bytes(**arrays), headers=OCTETS)
    assert rows.status_code == 201, rows.text
    data = dict.fromkeys(("train", "validation"), rows.json()["id"])
    job = {"model": model, "data": data, "steps": [{"type": "finetune"} | step], "device": device}
    return client.post("/jobs/validate", json=job)


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
        ({"label_smoothing": 0.1}, {"y": np.zeros((40, 3), np.float32)}, "step.not_applicable", "/steps/0/label"),
        ({"warmup_epochs": 10}, {}, "request.invalid", "/steps/0"),
        ({"momentum": 0.5}, {}, "request.invalid", "/steps/0"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_its_place(
    client: httpx.Client, program_id: str, step: dict, arrays: dict, code: str, pointer: str
) -> None:
    answer = training_job(client, program_id, step, **arrays)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


@pytest.fixture
def heads_id(client: httpx.Client) -> str:
    """Two outputs, named like their nodes: linear [batch, 3] and reshape [batch, 7, 5]."""
    return uploaded(client, Heads())


TOKENS = {"y": np.full((40, 7), 4)}


@pytest.mark.parametrize(
    ("step", "arrays"),
    [
        ({}, TOKENS),
        ({"output": "reshape", "class_weights": [1] * 5}, TOKENS),
        ({"output": "reshape"}, {"y": np.zeros((40, 7, 5), np.float32)}),
        ({"output": "linear"}, {}),
        ({"type": "distill", "outputs": "all"}, {}),
        ({"type": "quantize.aware", "distill": "kd", "outputs": ["reshape"]}, {}),
    ],
)
def test_an_output_that_fits_the_labels_is_trained(
    client: httpx.Client, heads_id: str, step: dict, arrays: dict
) -> None:
    answer = training_job(client, heads_id, step, **arrays)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("step", "arrays", "code", "pointer"),
    [
        ({"output": "logits"}, {}, "step.not_applicable", "/steps/0/output"),
        ({"output": "reshape"}, {}, "step.not_applicable", "/steps/0/output"),
        ({"output": "linear"}, TOKENS, "step.not_applicable", "/steps/0/output"),
        ({}, {"y": np.zeros((40, 4), np.float32)}, "step.not_applicable", "/data/train"),
        ({"output": "reshape"}, {"y": np.full((40, 7), 5)}, "data.labels_out_of_range", "/data/train"),
        ({"class_weights": [1] * 7}, TOKENS, "step.not_applicable", "/steps/0/class_weights"),
        ({"type": "distill", "outputs": ["logits"]}, {}, "distill.unfit", "/steps/0/outputs"),
    ],
)
def test_an_output_that_cannot_learn_the_labels_is_refused(
    client: httpx.Client, heads_id: str, step: dict, arrays: dict, code: str, pointer: str
) -> None:
    answer = training_job(client, heads_id, step, **arrays)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert answer.json()["remedy"]


def test_an_onnx_file_is_trained_as_the_program_that_is_made_of_it(client: httpx.Client, model_id: str) -> None:
    assert training_job(client, model_id, {}).status_code == 200


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
    five = uploaded(client, Linear(4, 5))

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


def test_mixed_precision_needs_a_gpu(client: httpx.Client, program_id: str, components: Components) -> None:
    half = {"mixed_precision": True}
    refused = training_job(client, program_id, half, device="cpu")
    tune = {"type": "share_weights", "tune": {"epochs": 1} | half}
    tuned = training_job(client, program_id, tune, device="cpu")
    warned = training_job(client, program_id, half).json()
    with components.database.write() as session:
        workers.seen(session, "w", queue="cuda", facts={})
    taken = training_job(client, program_id, half).json()

    assert [one.json()["errors"][0]["pointer"] for one in (refused, tuned)] == [
        "/steps/0/mixed_precision",
        "/steps/0/tune/mixed_precision",
    ]
    assert "mixed_precision will not be used: no live worker has a GPU." in warned["warnings"]
    assert (taken["queue"], any("mixed_precision" in one for one in taken["warnings"])) == ("cuda", False)


def test_metrics_judge_the_output_named(client: httpx.Client) -> None:
    """The first head has two classes; the labels are the second's."""
    model = uploaded(client, Sorts())
    rows = client.post("/datasets", params={"name": "r"}, content=npz_bytes(y=np.full(40, 4)), headers=OCTETS)

    def judged(**evaluate: Any) -> httpx.Response:
        job = {"model": model, "data": {"test": rows.json()["id"]}, "steps": [], "evaluate": evaluate}
        return client.post("/jobs/validate", json=job)

    assert judged(output="linear_1").status_code == 200
    assert judged().json()["code"] == "data.labels_out_of_range"
    unknown = judged(output="logits").json()
    assert (unknown["code"], unknown["errors"][0]["pointer"]) == ("evaluate.not_measurable", "/evaluate/output")
