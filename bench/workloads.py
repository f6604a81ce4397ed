"""Writes `worker/engine/devices/workloads.json`: `python -m bench.workloads`.

The layers of the networks whose latencies others publish: multiply-accumulates, weights and values in and out, at batch
1, from torchvision's networks of the same names. Two that it does not have are laid out here: MobileNet v1
(arXiv:1704.04861, table 1) and the detector with its backbone (chuanqi305/MobileNet-SSD). ncnn's own files differ in
small ways: its googlenet has windows of 5, its alexnet two groups.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worker.engine.torch_program.architectures import torchvision

FILE = Path(__file__).parents[1] / "worker" / "engine" / "devices" / "workloads.json"
NETWORKS: dict[str, tuple[str, int]] = {
    "squeezenet": ("squeezenet1_1", 227),
    "mobilenet_v2": ("mobilenet_v2", 224),
    "mobilenet_v3": ("mobilenet_v3_large", 224),
    "shufflenet_v2": ("shufflenet_v2_x1_0", 224),
    "mnasnet": ("mnasnet1_0", 224),
    "efficientnet_b0": ("efficientnet_b0", 224),
    "googlenet": ("googlenet", 224),
    "resnet18": ("resnet18", 224),
    "alexnet": ("alexnet", 227),
    "vgg16": ("vgg16", 224),
    "resnet50": ("resnet50", 224),
}
"""By the published name: torchvision's, and the width of the input."""
STRIDES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))
"""Output channels and stride of each pair of a depthwise and a pointwise convolution."""


def mobilenet() -> nn.Sequential:
    """MobileNet v1 up to its last feature map."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1)]
    channels = 32
    for wider, stride in STRIDES:
        layers += [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.Conv2d(channels, wider, 1)]
        channels = wider
    return nn.Sequential(*layers)


class Classifier(nn.Module):
    """MobileNet v1."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.scores = mobilenet(), nn.Linear(1024, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


class Detector(nn.Module):
    """MobileNet-SSD: four more scales, and boxes and 21 classes predicted by pointwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet()
        self.scales = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, between, 1), nn.Conv2d(between, wider, 3, 2, 1))
            for channels, between, wider in ((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128))
        )
        wide = ((512, 3), (1024, 6), (512, 6), (256, 6), (256, 6), (128, 6))
        self.boxes = nn.ModuleList(nn.Conv2d(channels, 4 * priors, 1) for channels, priors in wide)
        self.classes = nn.ModuleList(nn.Conv2d(channels, 21 * priors, 1) for channels, priors in wide)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        fine = self.features[:23](x)
        maps = [fine, self.features[23:](fine)]
        for scale in self.scales:
            maps.append(scale(maps[-1]))
        return [
            head(features) for heads in (self.boxes, self.classes) for head, features in zip(heads, maps, strict=True)
        ]


def is_winograd(module: nn.Module) -> bool:
    """Whether fast convolution applies (arXiv:1509.09308): windows of 3, no stride, all channels summed."""
    return isinstance(module, nn.Conv2d) and (module.kernel_size, module.stride, module.dilation, module.groups) == (
        (3, 3),
        (1, 1),
        (1, 1),
        1,
    )


def layers_of(network: nn.Module, width: int) -> list[list[int]]:
    """Of each convolution and matrix product: multiply-accumulates, weights, values read, values written, if fast."""
    layers: list[list[int]] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        weight: Any = module.weight
        macs = out.numel() * weight[0].numel()
        layers.append([macs, weight.numel(), given[0].numel(), out.numel(), int(is_winograd(module))])

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.device("meta"):
        network.eval()(torch.empty(1, 3, width, width))
    return layers


def workloads() -> dict[str, list[list[int]]]:
    """By the published name."""
    by_name = {}
    with torch.device("meta"):
        for name, (known, width) in NETWORKS.items():
            by_name[name] = layers_of(torchvision().models.get_model(known, weights=None), width)
        by_name["mobilenet"], by_name["mobilenet_ssd"] = layers_of(Classifier(), 224), layers_of(Detector(), 300)
    return dict(sorted(by_name.items()))


if __name__ == "__main__":
    rows = (f"  {json.dumps(name)}: {json.dumps(layers)}" for name, layers in workloads().items())
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
