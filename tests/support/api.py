"""A real service on a free port: uvicorn, SQLite made by the migrations, a local folder, no worker.

A conftest imports the fixtures that its tests ask for.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.api.app import create_app
from app.api.components import Components
from app.api.server import BoundedHttp
from app.settings import Settings
from tests.support.files import npz_bytes, onnx_classifier
from tests.support.hostile.onnx_files import node, proto
from tests.support.migrated import migrate_sqlite
from tests.support.sizes import MIB

OCTETS: Final = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Small limits, so that tests can reach them."""
    return Settings(data_dir=tmp_path / "data", port=0, max_upload_bytes=24 * MIB, part_bytes=5 * MIB, upload_idle_s=2)


@pytest.fixture
def components(settings: Settings) -> Components:
    migrate_sqlite(settings.database)
    return Components.build(settings)


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port while the block lasts."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=BoundedHttp, log_config=None, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def base_url(components: Components) -> Iterator[str]:
    with serve(create_app(components)) as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=30) as made:
        yield made


@pytest.fixture
def model_id(client: httpx.Client) -> str:
    """A tiny classifier: input x of [batch, 4], three classes."""
    answer = client.post("/models", params={"name": "tiny"}, content=onnx_classifier(), headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def dataset_id(client: httpx.Client) -> str:
    """Forty rows for it, split into calibration and test."""
    spec = '{"splits": {"calibration": 0.5, "test": 0.5}}'
    answer = client.post("/datasets", params={"name": "rows", "spec": spec}, content=npz_bytes(), headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def send(client: httpx.Client, upload: dict, body: bytes) -> list[dict]:
    etags, start = [], 0
    for part in upload["parts"]:
        answer = client.put(part["url"], content=body[start : start + part["bytes"]], headers=OCTETS)
        assert answer.status_code == 204, answer.text
        etags.append({"number": part["number"], "etag": answer.headers["ETag"]})
        start += part["bytes"]
    return etags


def uploaded(client: httpx.Client, *, inputs: list, outputs: list, opset: int = 20) -> str:
    """Upload a model that computes nothing of interest between these inputs and outputs."""
    nodes = [node("Relu", [inputs[0].name], [output.name]) for output in outputs]
    content = proto(nodes, inputs=inputs, outputs=outputs, opset=opset).SerializeToString()
    answer = client.post("/models", params={"name": "m"}, content=content, headers=OCTETS)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
