"""Networks that every target delivers: what users deploy, at a size that a test can afford."""

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import nn

from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine.zoo import program
from worker.engine.torch_program.architectures import torchvision

PIXELS: Final = {"small_resnet": 32, "small_mobilenet": 32, "small_vit": 32, "resnet18": 64, "mobilenet_v2": 64}
"""The small ones have the blocks of the large ones, fewer of them."""
NAMES: Final = (
    *(name for name in PIXELS if name.startswith("small_")),
    *(pytest.param(name, marks=pytest.mark.extended) for name in PIXELS if not name.startswith("small_")),
)
"""To parametrize a test with; its cases with networks of full size run in `make test-slow` alone."""
CLASSES: Final = 10


def save_network(name: str, path: Path) -> Signature:
    """Write the network as a `.pt2` that takes any batch of images; returns its contract."""
    size = PIXELS[name]
    torch.manual_seed(0)
    model = _SMALL[name]() if name in _SMALL else getattr(torchvision().models, name)(num_classes=CLASSES)
    _settle(model, torch.randn(16, 3, size, size))
    torch.export.save(program(model, torch.zeros(2, 3, size, size)), path)
    batch = Dimension(name="batch", min=1, max=4096)
    return Signature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(batch, 3, size, size)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(batch, CLASSES)),),
    )


def _small_vit() -> nn.Module:
    model = torchvision().models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=CLASSES)
    nn.init.normal_(model.heads[0].weight, std=0.5)  # torchvision's is zero: every output would be
    return model


def _small_resnet() -> nn.Module:
    models = torchvision().models
    return models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


def _small_mobilenet() -> nn.Module:
    """One block without expansion, one that halves the image, one with a shortcut."""
    return torchvision().models.MobileNetV2(CLASSES, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]])


_SMALL: Final = {"small_resnet": _small_resnet, "small_mobilenet": _small_mobilenet, "small_vit": _small_vit}


def _settle(model: nn.Module, images: torch.Tensor) -> None:
    """Take the statistics of batch norms from images: by those of the constructor, a deep network answers 0."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()
