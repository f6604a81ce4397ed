"""Estimates for real networks in the formats that their jobs deliver."""

from collections.abc import Callable

import pytest

from app.spec.device_report import DeviceRun
from tests.support.target_jobs import Done

PI = {"type": "estimated", "device": "raspberry-pi-4b", "threads": 4}
FAST = {"latency": {"batch": [1], "runs": 20, "budget_s": 1}, "devices": [PI]}


def estimated(of_network: Callable[..., Done], name: str, **spec: object) -> DeviceRun:
    (target,) = of_network(name, evaluate=FAST, **spec).report.targets
    (cell,) = target.devices
    return cell


def test_a_depthwise_network_is_known_as_one(of_network: Callable[..., Done]) -> None:
    cell = estimated(of_network, "small_mobilenet")

    assert cell.estimate is not None
    assert cell.estimate.family == "depthwise"
    assert "mobilenet_v2" in cell.estimate.networks


def test_a_transformer_is_refused(of_network: Callable[..., Done]) -> None:
    cell = estimated(of_network, "small_vit")

    assert cell.failure is not None
    assert cell.failure.code == "device.not_fitted"
    assert "transformers" in cell.failure.detail


@pytest.mark.toolchain("openvino")
def test_another_format_is_estimated_by_the_same_layers(done: Callable[..., Done]) -> None:
    formats = [{"format": "onnx", "profile": "arm"}, {"format": "openvino"}]

    job = done(steps=[{"type": "quantize.static"}], targets=formats, evaluate=FAST)

    onnx, openvino = (target.devices[0] for target in job.report.targets)
    assert onnx.estimate is not None
    assert onnx.estimate.family == "convolutional_int8"
    assert openvino.estimate == onnx.estimate
    assert openvino.size_bytes != onnx.size_bytes


def test_what_cannot_run_there_is_not_estimated(of_network: Callable[..., Done]) -> None:
    networks = {"tensorrt": "small_resnet", "torchscript": "small_mobilenet"}
    for target, network in networks.items():
        cell = estimated(of_network, network, targets=[{"format": target}])

        assert cell.failure is not None
        assert cell.failure.code == "device.no_runtime"
