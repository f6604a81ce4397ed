"""Tensors read from the bytes of a file that admission has understood: nothing is unpickled, nothing is mapped."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from app.admission.stored import ITEM_BYTES, StoredTensor


def read_tensor(path: Path, stored: StoredTensor) -> Tensor:
    """The tensor, in memory of its own. Only the bytes it spans are read."""
    dtype: torch.dtype = getattr(torch, stored.dtype)
    if 0 in stored.shape:
        return torch.zeros(stored.shape, dtype=dtype)
    last = sum((size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True))
    raw = np.fromfile(path, np.uint8, (last + 1) * ITEM_BYTES[stored.dtype], offset=stored.start)
    return torch.from_numpy(raw).view(dtype).as_strided(stored.shape, stored.strides).contiguous()
