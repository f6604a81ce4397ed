"""Models and data sets over real HTTP."""

import hashlib
import http.client
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest

from app.api.components import Components
from app.settings import Settings
from tests.support.api import OCTETS
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.sizes import MIB


def test_a_model_is_admitted_described_and_given_back(client: httpx.Client, model_id: str) -> None:
    sent = onnx_classifier()
    shown = client.get(f"/models/{model_id}").json()

    assert shown["sha256"] == hashlib.sha256(sent).hexdigest()
    assert shown["bytes"] == len(sent)
    assert shown["info"]["operators"] == {"MatMul": 1}
    assert shown["info"]["parameters"] == 12
    assert [one["name"] for one in shown["info"]["signature"]["inputs"]] == ["x"]
    assert client.get(f"/models/{model_id}/content").content == sent


def test_a_range_and_a_known_etag_are_honoured(client: httpx.Client, model_id: str) -> None:
    sent = onnx_classifier()
    whole = client.get(f"/models/{model_id}/content")
    part = client.get(f"/models/{model_id}/content", headers={"Range": "bytes=5-9"})
    tail = client.get(f"/models/{model_id}/content", headers={"Range": "bytes=-4"})
    known = client.get(f"/models/{model_id}/content", headers={"If-None-Match": whole.headers["ETag"]})
    beyond = client.get(f"/models/{model_id}/content", headers={"Range": f"bytes={len(sent)}-"})

    assert whole.headers["ETag"] == f'"{hashlib.sha256(sent).hexdigest()}"'
    assert (part.status_code, part.content) == (206, sent[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{len(sent)}"
    assert tail.content == sent[-4:]
    head = client.head(f"/models/{model_id}/content")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(sent)), b"")
    assert (known.status_code, known.content) == (304, b"")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "request.range_not_satisfiable")
    far = client.get(f"/models/{model_id}/content", headers={"Range": "bytes=99999999999999999999-"})
    assert far.status_code == 416
    backwards = client.get(f"/models/{model_id}/content", headers={"Range": "bytes=5-2"})
    assert (backwards.status_code, backwards.content) == (200, sent)


def test_a_data_set_shows_its_arrays_and_declaration(client: httpx.Client, dataset_id: str) -> None:
    shown = client.get(f"/datasets/{dataset_id}").json()

    assert shown["info"]["rows"] == 40
    assert shown["info"]["arrays"]["x"] == {"dtype": "float32", "shape": [40, 4]}
    assert list(shown["spec"]["splits"]) == ["calibration", "test"]


def test_a_deleted_model_is_gone_and_its_bytes_too(client: httpx.Client, model_id: str, components: Components) -> None:
    assert len(list(components.store.list("models/"))) == 1
    assert client.delete(f"/models/{model_id}").status_code == 204

    assert client.get(f"/models/{model_id}").status_code == 404
    assert client.get("/models").json()["data"] == []
    assert list(components.store.list("models/")) == []


def test_a_model_an_unfinished_job_reads_stays(client: httpx.Client, model_id: str) -> None:
    client.post("/jobs", json={"model": model_id})

    refused = client.delete(f"/models/{model_id}")

    assert (refused.status_code, refused.json()["code"]) == (409, "resource.in_use")


def test_pages_are_newest_first_and_complete(client: httpx.Client) -> None:
    for number in range(5):
        labels = ["parity:even"] if number % 2 == 0 else ["parity:odd"]
        params = {"name": f"m{number}", "label": labels}
        client.post("/models", params=params, content=onnx_classifier(number), headers=OCTETS)

    first = client.get("/models", params={"limit": 2}).json()
    second = client.get("/models", params={"limit": 2, "after": first["next"]}).json()
    third = client.get("/models", params={"limit": 2, "after": second["next"]}).json()
    even = client.get("/models", params={"label": "parity:even"}).json()

    assert [one["name"] for page in (first, second, third) for one in page["data"]] == ["m4", "m3", "m2", "m1", "m0"]
    assert [first["has_more"], second["has_more"], third["has_more"]] == [True, True, False]
    assert [one["name"] for one in even["data"]] == ["m4", "m2", "m0"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", OCTETS, 422, "upload.empty"),
        (b"not a model at all, but some text", OCTETS, 415, "model.unsupported_format"),
        (b"x" * 10, {"Content-Type": "text/html"}, 415, "request.unsupported_media_type"),
        (b"x" * (25 * MIB), OCTETS, 413, "request.too_large"),
    ],
    ids=["empty", "text", "media type", "too large"],
)
def test_a_bad_upload_is_refused(
    client: httpx.Client, settings: Settings, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/models", params={"name": "bad"}, content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]
    assert client.get("/models").json()["data"] == []
    assert not settings.scratch.exists() or list(settings.scratch.iterdir()) == []


def test_a_chunked_body_over_the_cap_is_refused(client: httpx.Client, settings: Settings) -> None:
    answer = client.post("/models", params={"name": "bad"}, content=(b"x" * MIB for _ in range(30)), headers=OCTETS)

    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")
    assert list(settings.scratch.iterdir()) == []


def test_a_body_that_stalls_is_given_up(base_url: str, settings: Settings) -> None:
    address = urlsplit(base_url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)) as connection:
        connection.putrequest("POST", "/models?name=slow")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"only a little")

        assert connection.getresponse().status == 408
    assert list(settings.scratch.iterdir()) == []


def test_a_body_that_ends_early_leaves_nothing(base_url: str, client: httpx.Client, settings: Settings) -> None:
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname, address.port)) as raw:
        raw.sendall(
            b"POST /models?name=short HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 100000\r\n\r\n" + b"x" * 10
        )
        deadline = time.monotonic() + 10
        while not settings.scratch.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    while list(settings.scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert list(settings.scratch.iterdir()) == []
    assert client.get("/livez").status_code == 200


def test_a_dataset_declaration_that_does_not_fit_is_refused(client: httpx.Client) -> None:
    for spec, status in [
        ('{"splits": {"a": 0.8, "b": 0.8}}', 422),
        ('{"preprocess": {"nope": [{"type": "to_float"}]}}', 422),
        ('{"preprocess": {"x": [{"type": "grayscale"}]}}', 422),
        ("{", 422),
        ('{"unknown": 1}', 422),
    ]:
        answer = client.post("/datasets", params={"name": "d", "spec": spec}, content=npz_bytes(), headers=OCTETS)
        assert answer.status_code == status, answer.text
        assert answer.json()["errors"], spec
