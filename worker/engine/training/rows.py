"""Which rows a training takes, in which order, and which choose its best epoch."""

from collections.abc import Iterator

import numpy as np

from app.spec.training import Training
from worker.engine.context import Context
from worker.engine.data.batches import Source, filled_up
from worker.engine.torch_program.program import Program

HELD_OUT = 0.1
"""Share of the training rows that choose the best epoch where no validation rows are named."""


def split(context: Context) -> tuple[Source, Source, tuple[str, ...]]:
    """Rows to train on, rows to choose the best epoch on, and what to tell about them."""
    source = Source(context.data["train"])
    if "validation" in context.data:
        return source, Source(context.data["validation"]), ()
    held_out = max(1, round(HELD_OUT * len(source)))
    if held_out >= len(source):
        return source, source, ("There is one training row: the best epoch was chosen on it.",)
    order = np.random.default_rng([context.seed, 0]).permutation(len(source))
    note = f"No validation rows were named: {held_out} of the training rows were held out to choose the best epoch."
    return source.part(np.sort(order[held_out:])), source.part(np.sort(order[:held_out])), (note,)


def batch_size(program: Program, config: Training) -> int:
    """Rows in a batch: as planned, within what the program was exported for."""
    sizes = [tensor.shape[0] for tensor in program.signature.inputs]
    if isinstance(sizes[0], int):
        return sizes[0]
    return min([config.batch, *(size.max for size in sizes if not isinstance(size, int) and size.max is not None)])


def epoch_order(count: int, batch: int, seed: int, epoch: int, *, fixed: bool) -> Iterator[np.ndarray]:
    """Rows of each batch of an epoch. A last batch of one row has no variance for batch norms: it is left out.

    `fixed`: every batch has the size `batch`, which may be 1; the last one is filled up.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    if fixed:
        order = filled_up(order, batch)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        if fixed or start == 0 or len(rows) > 1:
            yield rows
