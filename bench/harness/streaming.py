"""One pass over an image archive in a process of its own: `python -m bench.harness.streaming admission|reading path`.

Prints one line of JSON: `peak_mb` above the memory with all libraries loaded, and `seconds`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.admission import admit_dataset
from app.spec.data import DatasetSpec
from bench.harness.memory import watching

SPEC = DatasetSpec.model_validate(
    {
        "preprocess": {
            "image": [
                {"type": "to_float"},
                {"type": "resize_shorter", "size": 256},
                {"type": "center_crop", "height": 224, "width": 224},
                {"type": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            ]
        }
    }
)
BATCH = 32
WARM_ROWS = 10 * BATCH
"""Read before memory is looked at: the allocator keeps what a few batches needed."""
LIMIT = 1 << 40


def admission(path: Path) -> Callable[[], None]:
    """What the API process does with an upload; it never loads torch."""

    def admit() -> None:
        admit_dataset(path, SPEC, max_inflated_bytes=LIMIT)

    return admit


def reading(path: Path) -> Callable[[], None]:
    """What a worker does in one epoch, without the model."""
    import numpy as np
    import torch

    from app.spec.work import DataFile
    from worker.engine.data.rows import Rows

    torch.set_num_threads(1)
    file = DataFile(path=path.name, info=admit_dataset(path, SPEC, max_inflated_bytes=LIMIT), spec=SPEC, split=None)

    def read() -> None:
        rows = Rows.open(path.parent, file, ["image"])
        shuffled = replace(rows, indices=np.random.default_rng(0).permutation(rows.indices))
        for _ in shuffled.batches(BATCH):
            pass

    for _ in Rows.open(path.parent, file, ["image"]).sample(WARM_ROWS, 0).batches(BATCH):
        pass
    return read


def main() -> None:
    """Do what the command line says."""
    what, path = sys.argv[1:]
    work = {"admission": admission, "reading": reading}[what](Path(path))
    started = time.monotonic()
    with watching(os.getpid()) as seen:
        work()
    print(json.dumps({"peak_mb": seen.growth_mb, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
