"""What any client meets: hosts, ids, malformed JSON, health, OpenAPI, and no torch."""

import json
import os
import re
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest

from app.api.app import create_app, require_loopback
from app.api.components import Components
from app.api.errors import BindForbidden
from app.settings import Settings
from app.spec.devices import DEVICES
from app.spec.targets import TARGETS

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"seed": NaN}', 422),
        (b'{"name": "\\ud800", "model": "mdl_' + b"0" * 32 + b'"}', 422),
        (b"[" * 900 + b"]" * 900, 422),
        (b'{"labels": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", 422),
        (b"\xff\xfe{}", 422),
        (b"{", 422),
        (b"", 422),
        (b'{"name": "' + b"x" * (2 << 20) + b'"}', 413),
    ],
    ids=["nan", "surrogate", "deep list", "deep object", "utf-16", "cut", "nothing", "2 MiB"],
)
def test_malformed_json_is_never_a_500_and_never_echoed(client: httpx.Client, body: bytes, status: int) -> None:
    answer = client.post("/jobs", content=body, headers=JSON)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 5000


def test_the_input_is_not_echoed(client: httpx.Client) -> None:
    answer = client.post("/jobs", json={"model": "SECRET-VALUE", "name": ["SECRET-VALUE"], "seed": "SECRET-VALUE"})

    assert answer.status_code == 422
    assert "SECRET-VALUE" not in answer.text


def test_a_body_that_is_not_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/jobs", content=b'{"a": 1}', headers={"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (415, "request.unsupported_media_type")


def test_the_request_id_comes_back(client: httpx.Client) -> None:
    given = client.get("/livez", headers={"X-Request-Id": "abc-1"})
    forged = client.get("/livez", headers={"X-Request-Id": "a b"})
    missing = client.get("/nowhere")

    assert given.headers["X-Request-Id"] == "abc-1"
    assert forged.headers["X-Request-Id"] != "a b"
    assert missing.json()["request_id"] == missing.headers["X-Request-Id"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "169.254.169.254", ""])
def test_other_hosts_are_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/models", headers={"Host": host})

    assert (answer.status_code, answer.json()["code"]) == (421, "request.host_forbidden")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com"])
def test_an_address_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(BindForbidden, match="other machines can reach"):
        require_loopback(Settings(host=host))


def test_readiness_names_what_is_missing(client: httpx.Client) -> None:
    ready = client.get("/readyz").json()

    assert ready["checks"] == {"database": "ok", "broker": "ok", "storage": "ok", "sweep": "ok"}
    assert ready["queues"] == {"cpu": [], "cuda": []}
    assert client.get("/version").json()["version"]
    assert 'pare_workers{queue="cpu"} 0.0' in client.get("/metrics").text


def test_the_catalogue_is_the_contract(client: httpx.Client) -> None:
    techniques = {one["type"]: one for one in client.get("/techniques").json()}

    assert set(techniques) >= {"finetune", "quantize.static", "quantize.dynamic"}
    assert techniques["quantize.static"]["needs"]["calibration"] is True
    assert "observer" in techniques["quantize.static"]["parameters"]["properties"]
    targets = {one["format"]: one for one in client.get("/targets").json()}
    assert targets.keys() == {target.kind() for target in TARGETS}
    assert targets["openvino"]["install"] == "python -m worker toolchains install openvino"
    assert targets["onnx"]["install"] is None
    devices = {one["type"]: one for one in client.get("/devices").json()}
    assert devices.keys() == {device.kind() for device in DEVICES}
    assert devices["estimated"]["provenance"] == "estimated"
    assert "threads" in devices["local"]["parameters"]["properties"]
    assert client.get("/workers").json() == []


def test_estimated_devices_come_with_their_sources(client: httpx.Client) -> None:
    devices = {one["id"]: one for one in client.get("/devices/estimated").json()}

    pi = devices["raspberry-pi-4b"]
    assert pi["threads"] == [1, 4]
    assert pi["networks"]["4"]["resnet50"] == 261.9
    assert pi["sources"][0]["url"] == "https://github.com/Tencent/ncnn/blob/master/benchmark/README.md"
    assert devices["jetson-agx-orin-gpu"]["kind"] == "gpu"


def test_openapi_names_every_operation_once(components: Components) -> None:
    document = create_app(components).openapi()
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]

    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names))
    assert all(name.isalnum() for name in names), names
    assert json.dumps(document)
    summaries = [operation["summary"] for _, _, operation in operations]
    assert len(summaries) == len(set(summaries))
    assert all(" " in summary for summary in summaries), summaries


def test_the_service_starts_where_torch_cannot_be_imported() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'torchvision', 'worker'): sys.modules[name] = None\n"
        "import app.__main__, app.api.app, app.services.jobs\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_another_site_cannot_write(client: httpx.Client, headers: dict[str, str]) -> None:
    answer = client.post("/models", params={"name": "m"}, content=b"x", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "request.cross_site")
    assert client.get("/models", headers=headers).status_code == 200


def test_our_own_page_can_write(client: httpx.Client, base_url: str) -> None:
    answer = client.post("/jobs", json={}, headers={"Origin": base_url, "Sec-Fetch-Site": "same-origin"})

    assert answer.json()["code"] == "request.invalid"


def test_the_page_of_the_api_fetches_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")

    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert client.get(asset).status_code == 200, asset


def test_a_stalled_json_body_is_given_up_and_its_connection_closed(base_url: str) -> None:
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as raw:
        raw.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        answer = b""
        while piece := raw.recv(4096):
            answer += piece

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request.timeout" in answer


def test_a_wrong_setting_is_named_and_its_value_kept_secret() -> None:
    for program in ("app", "worker", "migrations"):
        done = subprocess.run(
            [sys.executable, "-m", program],
            env=os.environ | {"PARE_PORT": "SECRET-VALUE"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("PARE_PORT: ")
        assert "SECRET-VALUE" not in done.stderr


def test_a_pointer_leads_into_the_step_that_was_sent(client: httpx.Client) -> None:
    step = {"type": "prune.weights", "pattern": "2:4", "sparsity": 0.5}
    answer = client.post("/jobs/validate", json={"model": "mdl_" + "0" * 32, "steps": [step]}).json()

    assert [error["pointer"] for error in answer["errors"]] == ["/steps/0"]
    zeros = {"type": "finetune", "class_weights": [0, 0, 0]}
    answer = client.post("/jobs/validate", json={"model": "mdl_" + "0" * 32, "steps": [zeros]}).json()
    assert "nothing would be learned" in answer["detail"]
