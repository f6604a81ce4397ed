"""A worker tells what targets make of a model before any job is queued."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.installation.client import Client
from tests.support.installation.waiting import until

SECONDS = 180


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_operators_are_told_by_the_runtimes_themselves(client: Client, digits: Path, form: str) -> None:
    model = client.upload_model((digits / f"digits.{form}").read_bytes(), "digits")

    def found() -> list[Any] | None:
        path = f"/models/{model}/compatibility"
        answers = [client.http.get(path, params={"target": target}) for target in ("onnx", "tensorrt")]
        pending = any(answer.status_code == 202 for answer in answers)
        return None if pending else [answer.json()["data"] for answer in answers]

    runtime, tensorrt = until(found, "a worker to look", SECONDS)

    assert {one["status"] for one in (*runtime, *tensorrt)} == {"ready"}
    convolutions = [row for row in runtime[0]["operators"] if row["operator"] == "Conv"]
    assert [(row["status"], row["count"]) for row in convolutions] == [("supported", 3)]
    assert "onnxruntime" in convolutions[0]["source"]
    assert "onnx-tensorrt" in next(row for row in tensorrt[0]["operators"] if row["operator"] == "Conv")["source"]

    spec = {"model": model, "targets": [{"format": "onnx"}]}
    validated = client.http.post("/jobs/validate", json=spec).json()
    assert validated["compatibility"] == [runtime[0]]
