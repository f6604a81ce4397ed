"""Networks that every target delivers: what users deploy, at a size that a test can afford."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from app.spec.signature import Dimension, Signature, TensorSpec
from tests.support.engine.zoo import program
from worker.engine.torch_program.architectures import torchvision

PIXELS: Final = {"resnet18": 64, "mobilenet_v2": 64, "small_vit": 32}
NAMES: Final = tuple(PIXELS)
CLASSES: Final = 10


def save_network(name: str, path: Path) -> Signature:
    """Write the network as a `.pt2` that takes any batch of images; returns its contract."""
    size = PIXELS[name]
    torch.manual_seed(0)
    model = _small_vit() if name == "small_vit" else getattr(torchvision().models, name)(num_classes=CLASSES)
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


def _settle(model: nn.Module, images: torch.Tensor) -> None:
    """Take the statistics of batch norms from images: by those of the constructor, a deep network answers 0."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()
