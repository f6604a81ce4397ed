"""Archives of pictures go from upload to an accepted job, and what does not fit is refused at the right place."""

import json
from typing import Any

import httpx
import pytest

from tests.support.api import OCTETS, uploaded
from tests.support.hostile.onnx_files import value
from tests.support.pictures import picture, tar_of

FLOAT = {"type": "to_float"}
RESIZED = [FLOAT, {"type": "resize", "height": 8, "width": 8}]
PICTURES = {f"{split}/{n % 3}/{n}.png": picture(8 + n, 9, seed=n) for n in range(6) for split in ("train", "test")}


@pytest.fixture
def model(client: httpx.Client) -> str:
    return uploaded(client, inputs=[value("x", ["n", 3, 8, 8])], outputs=[value("y", ["n", 3])])


def dataset(client: httpx.Client, **spec: Any) -> dict[str, Any]:
    answer = client.post(
        "/datasets", params={"name": "d", "spec": json.dumps(spec)}, content=tar_of(PICTURES), headers=OCTETS
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_pictures_feed_the_only_input(client: httpx.Client, model: str) -> None:
    data = dataset(client, preprocess={"image": RESIZED})
    assert data["info"]["classes"] == ["0", "1", "2"]
    assert data["info"]["splits"] == {"train": 6, "test": 6}

    answer = client.post("/jobs/validate", json={"model": model, "data": {"test": data["id"]}})

    assert (answer.status_code, answer.json()["valid"]) == (200, True)
    assert not any("is no input" in warning for warning in answer.json()["warnings"])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, "takes float32, the data is uint8"),
        ({"preprocess": {"image": [FLOAT]}}, "differ in size: [3, height, 9]"),
        ({"preprocess": {"image": [FLOAT, {"type": "resize_shorter", "size": 8}]}}, "differ in size"),
        ({"image": "pixels"}, "needs an input 'x'; the data set has 'pixels'"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(
    client: httpx.Client, model: str, spec: dict[str, Any], sentence: str
) -> None:
    answer = client.post("/jobs/validate", json={"model": model, "data": {"test": dataset(client, **spec)["id"]}})

    assert (answer.status_code, answer.json()["code"]) == (422, "data.mismatch")
    assert sentence in answer.json()["detail"]


def test_only_the_archives_own_splits_may_be_named(client: httpx.Client, model: str) -> None:
    data = dataset(client, preprocess={"image": RESIZED})["id"]
    for split, status in (("train", 200), ("holdout", 422)):
        roles = {"test": {"dataset": data, "split": split}}
        assert client.post("/jobs/validate", json={"model": model, "data": roles}).status_code == status
