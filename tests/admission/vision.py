"""torchvision beside a torch that was built for another device."""

from typing import Any

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept = []


def resnet18() -> Any:
    """An untrained resnet18.

    The wheel's C++ operators are linked against CUDA; beside a CPU build of torch the import fails because they are
    not registered. Declaring them is enough for everything that does not call them.
    """
    try:
        from torchvision.models import resnet18 as build
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(operator)
        _kept.append(library)
        from torchvision.models import resnet18 as build
    return build()
