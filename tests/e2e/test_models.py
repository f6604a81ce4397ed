"""What docs/models.md shows works: an export, and weights that become a model and a delivered file."""

import io
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from app.admission.architectures import names
from app.spec.architecture import Architecture
from tests.support.installation.client import OCTETS, accepted
from tests.support.installation.jobs import BRIEF
from tests.support.installation.pages import BASE_URL, run
from tests.support.installation.serving import Stack
from tests.support.root import ROOT
from worker.engine.torch_program.architectures import construct

PAGE = (ROOT / "docs" / "models.md").read_text()
RESNET = Architecture.model_validate(
    {"architecture": "torchvision:resnet18", "kwargs": {"num_classes": 10}, "input": {"shape": [3, 32, 32]}}
)


def snippet(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found.group(1)


def test_the_export(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    exec(snippet("export"), {"model": model, "torch": torch})

    uploaded = stack.client.upload_model((tmp_path / "model.pt2").read_bytes(), "exported")
    info = stack.client.get(f"/models/{uploaded}")["info"]
    assert info["format"] == "pt2"
    assert info["warnings"] == []


def test_every_network_is_listed() -> None:
    assert set(re.findall(r"`(\w+)`", PAGE.rpartition("The networks:")[2])) == set(names())


def delivered(stack: Stack, model: str, pictures: np.ndarray) -> np.ndarray:
    """The scores of the file that a job without steps delivers, run outside of the service."""
    job = stack.client.submit({"model": model, "evaluate": {"latency": BRIEF}})
    ended = stack.client.wait(job)
    assert ended["status"] == "succeeded", ended["error"]
    (artifact,) = [one for one in stack.client.artifacts(job) if one["kind"] == "model"]
    session = onnxruntime.InferenceSession(stack.client.download(artifact["id"]), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": pictures})[0]


@pytest.mark.slow
def test_weights_become_a_model_and_a_delivered_file(stack: Stack, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = construct(RESNET)
    pictures = torch.randn(3, 3, 32, 32)
    expected = network(pictures).numpy(force=True)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    pth = io.BytesIO()
    torch.save(network.state_dict(), pth)

    first = json.loads(run(["bash", "-ec", snippet("curl").replace(BASE_URL, stack.client.url)], tmp_path))
    params = {"name": "pth", "architecture": RESNET.model_dump_json()}
    second = accepted(stack.client.http.post("/models", params=params, content=pth.getvalue(), headers=OCTETS)).json()

    for model in (first, second):
        assert model["info"]["format"] == "weights"
        np.testing.assert_allclose(delivered(stack, model["id"], pictures.numpy()), expected, rtol=1e-3, atol=1e-4)
