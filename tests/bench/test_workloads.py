"""The layers that the bench writes down for published networks are those that a worker reads from a file."""

from pathlib import Path

import torch

from bench.workloads import layers_of
from tests.support.engine import zoo
from tests.support.engine.orders import signature_of
from worker.engine.devices.workload import LayerCosts, published_layers, workload_of
from worker.engine.torch_program.architectures import torchvision


def test_an_onnx_file_is_read_as_the_published_networks_were(tmp_path: Path) -> None:
    resnet18 = zoo.export(zoo.resnet("resnet18"), tmp_path / "m.onnx", {"image": torch.zeros(2, 3, 64, 64)}, ["logits"])
    signature = signature_of(resnet18)
    workload = workload_of(resnet18, signature, 1)

    width = signature.inputs[0].shape[-1]
    assert isinstance(width, int)
    network = torchvision().models.resnet18(weights=None).to("meta")
    rows = layers_of(network, width)
    expected = LayerCosts.of((macs, weights, given + out, fast) for macs, weights, given, out, fast in rows)
    assert not workload.depthwise
    assert not len(workload.integer)
    for name in ("macs", "weights", "values", "fast"):
        assert sorted(getattr(workload.floating, name)) == sorted(getattr(expected, name)), name
    assert sorted(expected.weights) == sorted(published_layers()["resnet18"].weights)
