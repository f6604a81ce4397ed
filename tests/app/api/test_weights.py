"""Weights of a named network over real HTTP: as a file, in parts, and by name from a server of this test."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
import torch
from safetensors.numpy import save

from app.api.app import create_app
from app.api.components import Components
from app.services.errors import HubUnreachable
from app.services.pretrained import Hub
from app.spec.architecture import Architecture, NamedWeights
from tests.support.api import OCTETS, send, serve
from tests.support.files import onnx_classifier, weights_arrays, weights_bytes

DECLARED: dict[str, Any] = {
    "architecture": "torchvision:squeezenet1_1",
    "kwargs": {"num_classes": 10},
    "input": {"name": "picture", "shape": [3, 32, 48]},
}
ARCHITECTURE = Architecture.model_validate(DECLARED)


def post(client: httpx.Client, content: bytes, declared: Any = None, **edits: Any) -> httpx.Response:
    params = {"name": "weights"} | ({} if declared is None else {"architecture": json.dumps({**declared, **edits})})
    return client.post("/models", params=params, content=content, headers=OCTETS)


def test_weights_are_described_as_the_model_they_make(client: httpx.Client) -> None:
    answer = post(client, weights_bytes(ARCHITECTURE), DECLARED)

    assert answer.status_code == 201, answer.text
    info = answer.json()["info"]
    batch = {"name": "batch", "min": 1, "max": None}
    assert info["signature"]["inputs"] == [{"name": "picture", "dtype": "float32", "shape": [batch, 3, 32, 48]}]
    assert info["signature"]["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [batch, 10]}]
    assert info["format"] == "weights"
    assert info["parameters"] == 727_626
    assert info["architecture"]["architecture"] == "torchvision:squeezenet1_1"
    assert client.get(f"/models/{answer.json()['id']}").json()["info"] == info


def test_weights_may_come_in_parts(client: httpx.Client) -> None:
    body = weights_bytes(ARCHITECTURE)
    request = {"kind": "model", "name": "parts", "bytes": len(body), "architecture": DECLARED}
    upload = client.post("/uploads", json=request).json()

    done = client.post(f"/uploads/{upload['id']}/complete", json={"parts": send(client, upload, body)}).json()

    assert client.get(f"/models/{done['resource']}").json()["info"]["format"] == "weights"


def test_what_does_not_fit_is_named(client: httpx.Client) -> None:
    arrays = weights_arrays(ARCHITECTURE)
    del arrays["features.3.squeeze.weight"]
    arrays["features.99.weight"] = arrays["classifier.1.bias"]
    arrays["classifier.1.weight"] = arrays["classifier.1.weight"][:7]

    answer = post(client, save(arrays), DECLARED)

    assert (answer.status_code, answer.json()["code"]) == (422, "model.weights_mismatch")
    detail = answer.json()["detail"]
    assert "missing: 'features.3.squeeze.weight'" in detail
    assert "unexpected: 'features.99.weight'" in detail
    assert "'classifier.1.weight' (float32 [7, 512, 1, 1] instead of float32 [10, 512, 1, 1])" in detail


@pytest.mark.parametrize(
    ("edits", "code", "said"),
    [
        ({"architecture": "torchvision:squeezenet1"}, "architecture.unknown", "torchvision:squeezenet1_1"),
        ({"architecture": "os:system"}, "request.invalid", "pattern"),
        ({"architecture": "torchvision:fasterrcnn_resnet50_fpn"}, "architecture.unknown", "There is no"),
        ({"kwargs": {"num_classes": 0}}, "request.invalid", "greater than"),
        ({"kwargs": {"norm_layer": "x"}}, "request.invalid", "Extra"),
        ({"kwargs": {"transform_input": True}}, "architecture.unfit", "takes no 'transform_input'"),
        ({"input": {"shape": [3, 16, 16]}}, "architecture.unfit", "17 pixels"),
        ({"input": {"shape": [1, 32, 32]}}, "request.invalid", "3"),
        ({"kwargs": {}}, "model.weights_mismatch", "[1000"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(client: httpx.Client, edits: Any, code: str, said: str) -> None:
    answer = post(client, weights_bytes(ARCHITECTURE), DECLARED, **edits)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert said in answer.text


def test_weights_without_a_declaration_are_told_how_to_declare(client: httpx.Client) -> None:
    answer = post(client, weights_bytes(ARCHITECTURE))

    assert (answer.status_code, answer.json()["code"]) == (415, "model.unsupported_format")
    assert 'architecture={"architecture": "torchvision:' in answer.json()["remedy"]


def test_a_graph_with_a_declaration_is_refused(client: httpx.Client) -> None:
    answer = post(client, onnx_classifier(), DECLARED)

    assert (answer.status_code, answer.json()["code"]) == (422, "architecture.not_needed")


class _Weights(BaseHTTPRequestHandler):
    """Publishes one file; other paths are redirected, broken or missing."""

    file = b""

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name.startswith("moved"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/models/good.pth")
            self.end_headers()
            return
        if name.startswith("gone"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(self.file)))
        self.end_headers()
        self.wfile.write(self.file if not name.startswith("cut") else self.file[:1000])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(components: Components, tmp_path: Any) -> Iterator[httpx.Client]:
    """A service whose weights come from a server on this machine."""
    path = tmp_path / "weights.pth"
    torch.save({name: torch.from_numpy(array) for name, array in weights_arrays(ARCHITECTURE).items()}, path)
    _Weights.file = path.read_bytes()
    digest = hashlib.sha256(_Weights.file).hexdigest()[:8]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Weights)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = components.settings.model_copy(update={"weights_url": f"http://127.0.0.1:{server.server_port}/models/"})
    files = {
        "GOOD": f"good-{digest}.pth",
        "FORGED": "good-00000000.pth",
        "MOVED": f"moved-{digest}.pth",
        "GONE": f"gone-{digest}.pth",
        "CUT": f"cut-{digest}.pth",
    }
    parts = replace(components, hub=Hub(components.library, settings, files=lambda _: files))
    with serve(create_app(parts)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    server.shutdown()
    server.server_close()


def by_name(client: httpx.Client, weights: str) -> httpx.Response:
    return client.post("/models", params={"name": "published"}, json={"architecture": DECLARED, "weights": weights})


def test_published_weights_are_fetched_and_admitted(hub: httpx.Client) -> None:
    answer = by_name(hub, "GOOD")

    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(_Weights.file).hexdigest()
    assert answer.json()["info"]["parameters"] == 727_626
    assert hub.get(f"/models/{answer.json()['id']}/content").content == _Weights.file


@pytest.mark.parametrize(
    ("weights", "status", "code"),
    [
        ("FORGED", 502, "model.hub_mismatch"),
        ("CUT", 502, "model.hub_mismatch"),
        ("MOVED", 502, "model.hub_unreachable"),
        ("GONE", 502, "model.hub_unreachable"),
        ("NOT_THERE", 422, "architecture.unknown_weights"),
        ("lower", 422, "request.invalid"),
    ],
)
def test_what_is_not_the_published_file_is_refused(hub: httpx.Client, weights: str, status: int, code: str) -> None:
    answer = by_name(hub, weights)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["remedy"]
    assert hub.get("/models").json()["data"] == []


@pytest.mark.parametrize(
    ("url", "said"), [("http://127.0.0.1:9/", "does not answer"), ("", "PARE_WEIGHTS_URL is empty")]
)
def test_a_hub_that_is_away_is_said_so(components: Components, url: str, said: str) -> None:
    settings = components.settings.model_copy(update={"weights_url": url})
    wanted = NamedWeights(architecture=Architecture(architecture="torchvision:resnet50"), weights="IMAGENET1K_V2")

    with pytest.raises(HubUnreachable, match=said) as refused:
        Hub(components.library, settings).add_model("default", wanted, name="away", labels={})

    assert refused.value.status == HTTPStatus.BAD_GATEWAY
    assert "PARE_WEIGHTS_URL" in refused.value.remedy


def test_a_json_body_is_checked_like_any_other(hub: httpx.Client) -> None:
    for body, pointer in (({"weights": "GOOD"}, "/architecture"), ({"architecture": DECLARED}, "/weights")):
        answer = hub.post("/models", params={"name": "x"}, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    malformed = hub.post("/models", params={"name": "x"}, content=b"{", headers={"Content-Type": "application/json"})
    assert (malformed.status_code, malformed.json()["code"]) == (422, "request.malformed")


class _Folded(torch.nn.Module):
    """A linear classifier whose weights became constants."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_a_model_without_parameters_has_nothing_to_prune(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(_Folded(), (torch.randn(2, 4),), dynamic_shapes=({0: batch},)), buffer)
    model = client.post("/models", params={"name": "folded"}, content=buffer.getvalue(), headers=OCTETS).json()["id"]

    exported = client.post("/jobs/validate", json={"model": model})
    pruned = client.post("/jobs/validate", json={"model": model, "steps": [{"type": "prune.weights"}]})

    assert "no parameters" in exported.json()["warnings"][0]
    assert (pruned.status_code, pruned.json()["code"]) == (422, "step.not_applicable")
    assert "nn.Parameter" in pruned.json()["remedy"]
