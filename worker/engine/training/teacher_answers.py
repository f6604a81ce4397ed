"""A teacher's answers, asked for once and kept on disk between epochs."""

import numpy as np
import torch
from torch import Tensor

from worker.engine.context import Context
from worker.engine.data.batches import Batch, Source
from worker.engine.data.npz import StoredArray
from worker.engine.model import new_folder
from worker.engine.training.teachers import Teacher

CACHE_BYTES = 4 * 1024**3
"""Answers beyond this size are not kept on disk: the teacher is asked again."""


class Answers:
    """A teacher's outputs for every row of the sources it is asked about, kept on disk."""

    def __init__(self, teacher: Teacher, context: Context) -> None:
        """The files are made in a folder of their own below the scratch folder."""
        self._teacher, self._context = teacher, context
        self._folder = new_folder(context.scratch)
        self._stored: dict[Source, dict[str, StoredArray] | None] = {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The answers for a batch whose rows are as they are in its source."""
        if batch.source not in self._stored:
            self._stored[batch.source] = self._ask(batch.source, len(batch))
        stored = self._stored[batch.source]
        if stored is None:
            return self._teacher(batch.inputs)
        return {
            name: torch.from_numpy(array.take(batch.rows)).to(self._context.device) for name, array in stored.items()
        }

    def _ask(self, source: Source, size: int) -> dict[str, StoredArray] | None:
        """Have the teacher answer for all rows, in order, so that every attempt has the same answers."""
        stored: dict[str, StoredArray] = {}
        for batch in source.in_order(size, self._context.device):
            answers = self._teacher(batch.inputs)
            if sum(answer[:1].nbytes for answer in answers.values()) * len(source) > CACHE_BYTES:
                return None
            for number, (name, answer) in enumerate(answers.items()):
                path = self._folder / f"answers-{len(self._stored)}-{number}"
                with path.open("ab") as file:
                    file.write(answer.numpy(force=True).astype(np.float32).tobytes())
                stored[name] = StoredArray(path, 0, np.dtype(np.float32), (len(source), *answer.shape[1:]))
        return stored
