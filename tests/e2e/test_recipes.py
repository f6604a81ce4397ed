"""Every kind of model, step and target goes through the whole service."""

import io
from pathlib import Path

import numpy as np
import onnxruntime

from app.spec.report import Report
from tests.support.installation.client import Client
from tests.support.installation.jobs import BRIEF, recipe

PROFILES = ["x86", "x86-legacy", "arm", "tensorrt"]


def report_of(client: Client, job: str) -> Report:
    ended = client.wait(job)
    assert ended["status"] == "succeeded", ended["error"]
    return Report.model_validate_json(client.http.get(f"/jobs/{job}/report").content)


def test_one_calibration_serves_four_targets(client: Client, digits: Path, digits_model: str, digits_data: str) -> None:
    targets = [{"format": "onnx", "profile": profile} for profile in PROFILES]
    job = client.submit(recipe(digits_model, digits_data, targets=targets))
    report = report_of(client, job)
    artifacts = [one for one in client.artifacts(job) if one["kind"] == "model"]

    assert [step.type for step in report.steps] == ["quantize.static"]
    assert [target.target.profile for target in report.targets] == PROFILES
    assert sorted(one["target"] for one in artifacts) == [0, 1, 2, 3]
    assert len({one["sha256"] for one in artifacts}) == 4
    stages = [event.data["stage"] for event in client.events(job) if event.kind == "progress"]
    assert stages.count("quantize.static") >= 1
    for target in report.targets:
        assert target.size.ratio < 0.35
        assert target.metrics[0].drop < 0.02
    rows = np.load(io.BytesIO((digits / "digits.npz").read_bytes()))
    images = rows["image"][:100].astype(np.float32) / 255
    for artifact in artifacts:
        session = onnxruntime.InferenceSession(client.download(artifact["id"]), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"image": images})
        assert (logits.argmax(1) == rows["y"][:100]).mean() > 0.9


def test_a_torch_program_becomes_a_quantized_onnx_file(client: Client, digits: Path, digits_data: str) -> None:
    model = client.upload_model((digits / "digits.pt2").read_bytes(), "digits.pt2")
    info = client.get(f"/models/{model}")["info"]
    data = client.upload_dataset(_renamed(digits, info["signature"]["inputs"][0]["name"]), _splits_for(info))
    report = report_of(client, client.submit(recipe(model, data)))

    assert info["format"] == "pt2"
    assert report.model.format == "pt2"
    assert report.targets[0].size.ratio < 0.35
    assert report.targets[0].metrics[0].drop < 0.02


def test_dynamic_quantization_needs_no_data(client: Client, digits_model: str, tiny_data: str) -> None:
    spec = {
        "model": digits_model,
        "steps": [{"type": "quantize.dynamic"}],
        "targets": [{"format": "onnx", "profile": "x86"}, {"format": "onnx", "profile": "arm"}],
        "evaluate": {"latency": BRIEF},
    }
    report = report_of(client, client.submit(spec))

    assert len(report.targets) == 2
    for target in report.targets:
        assert target.size.ratio < 0.7
        assert target.placement.integer > 0
        assert target.metrics == ()


def _renamed(digits: Path, name: str) -> bytes:
    rows, buffer = np.load(digits / "digits.npz"), io.BytesIO()
    np.savez(buffer, **{name: rows["image"], "y": rows["y"]})
    return buffer.getvalue()


def _splits_for(info: dict) -> dict:
    name = info["signature"]["inputs"][0]["name"]
    return {"splits": {"calibration": 0.25, "test": 0.75}, "preprocess": {name: [{"type": "to_float"}]}}
