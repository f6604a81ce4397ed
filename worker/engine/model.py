"""The model a job works on: a float ONNX graph on disk, what it was made from, and the plan that is attached to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.spec.signature import Signature
from worker.engine.plan import Plan

Reference = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""The source program: outputs by name for one batch of inputs by name."""


@dataclass(frozen=True)
class Model:
    """A float32 model. A step returns another one; files are never changed in place."""

    graph: Path
    """The ONNX file, with its external tensors beside it."""
    signature: Signature
    reference: Reference | None = None
    """The program that was uploaded, where that was not the ONNX file itself."""
    plan: Plan | None = None
    """How to quantize it; carried out by each target in its own way."""
