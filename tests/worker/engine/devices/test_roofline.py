"""The estimate against published latencies that it has not seen, and what it refuses."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.spec.devices import EstimatedDevice
from app.spec.devices.published import PublishedDevice, published
from tests.support.engine.orders import signature_of
from worker.engine.devices.errors import NotFitted
from worker.engine.devices.roofline import FAMILIES, Fitted, fitted
from worker.engine.devices.workload import workload_of

EVERY = [(device, run.threads) for device in published().devices for run in device.runs]


def fits(kind: str) -> list[Fitted]:
    found = []
    for device, threads in EVERY:
        for family in FAMILIES:
            if family.name == kind and device.kind == "cpu":
                try:
                    found.append(fitted(device, threads, family))
                except NotFitted:
                    continue
    return found


@pytest.mark.parametrize(
    ("family", "typical", "worst"),
    [
        ("convolutional", 0.25, 0.8),
        ("depthwise", 0.15, 0.95),
        ("convolutional_int8", 0.30, 1.1),
        ("depthwise_int8", 0.15, 0.6),
    ],
)
def test_held_out_networks_are_met(family: str, typical: float, worst: float) -> None:
    found = fits(family)

    assert len(found) >= 14
    assert np.median([one.median_error for one in found]) < typical
    assert max(one.worst_error for one in found) < worst


def test_two_networks_that_are_nearly_one_do_not_narrow_the_range() -> None:
    device = next(one for one in published().devices if one.id == "raspberry-pi-4b")

    integers = fitted(device, 4, FAMILIES[3])

    assert set(integers.held_out) == {"mobilenet", "mobilenet_ssd"}
    assert integers.worst_error < 0.05
    assert 0.2 < integers.range_error < 0.6, "what depthwise networks in float are missed by"


def test_a_held_out_network_is_not_in_its_own_fit() -> None:
    device = next(one for one in published().devices if one.id == "raspberry-pi-4b")
    slower = device.model_copy(update={"id": "slower", "runs": tuple(_slowed(device, "resnet50"))})

    before, after = (fitted(one, 4, FAMILIES[0]).held_out["resnet50"] for one in (device, slower))

    assert after == pytest.approx(before / 10), "its estimate is the same, its published latency ten times longer"


def _slowed(device: PublishedDevice, name: str) -> list[object]:
    return [
        run.model_copy(update={"latency_ms": run.latency_ms | {name: 10 * run.latency_ms[name]}}) for run in device.runs
    ]


def test_too_few_published_networks_are_refused() -> None:
    device = next(one for one in published().devices if one.id == "raspberry-pi-5")

    assert fitted(device, 4, FAMILIES[0]).worst_error < 0.5
    with pytest.raises(NotFitted, match="on 4 threads: latencies of 1 network of the kind 'depthwise' are published"):
        fitted(device, 4, FAMILIES[1])


def test_rows_multiply_the_work_and_not_the_weights(resnet18: Path) -> None:
    one, many = (workload_of(resnet18, signature_of(resnet18), batch).floating for batch in (1, 8))

    assert many.macs.sum() == 8 * one.macs.sum()
    assert many.values.sum() == 8 * one.values.sum()
    assert many.weights.sum() == one.weights.sum()


@pytest.mark.parametrize(
    ("operator", "attributes", "reason"),
    [
        ("LSTM", {"hidden_size": 4}, "recurrent layers"),
        ("LayerNormalization", {}, "transformers"),
        ("MatMul", {}, "products of two activations"),
        ("Relu", {}, "a network without convolutions"),
    ],
)
def test_networks_unlike_the_published_ones_are_refused(
    operator: str, attributes: dict[str, int], reason: str, tmp_path: Path
) -> None:
    shape = {"LSTM": [3, 1, 4]}.get(operator, [1, 4, 4])
    names = {"LSTM": ["x", "w", "r"], "LayerNormalization": ["x", "s"], "MatMul": ["x", "x"]}.get(operator, ["x"])
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [1, 16, 4], np.ones(64)),
        helper.make_tensor("r", TensorProto.FLOAT, [1, 16, 4], np.ones(64)),
        helper.make_tensor("s", TensorProto.FLOAT, [4], np.ones(4)),
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], name="n", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "m.onnx")

    with pytest.raises(NotFitted, match=reason):
        workload_of(tmp_path / "m.onnx", signature_of(tmp_path / "m.onnx"), 1)


def test_a_device_names_what_is_published() -> None:
    assert EstimatedDevice(device="raspberry-pi-4b").run.threads == 4
    with pytest.raises(ValueError, match="there are raspberry-pi-zero-2w"):
        EstimatedDevice(device="raspberry-pi-6")
    with pytest.raises(ValueError, match="for 1, 4 threads, not for 3"):
        EstimatedDevice(device="raspberry-pi-4b", threads=3)
