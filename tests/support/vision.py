"""A network of torchvision, for exports of a real size."""

from typing import Any

from worker.engine.torch_program.architectures import torchvision


def resnet18() -> Any:
    """An untrained resnet18."""
    return torchvision().models.resnet18()
