"""Test rows, with what the original and the artifact answered on this machine: files that a device can be judged by."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from app.spec.devices import Provenance
from app.spec.figures import MetricChange
from app.spec.metrics import MetricName
from worker.engine.devices.errors import AnswersMissing
from worker.engine.measure.batching import AnyRows, BatchRange, SyntheticRows
from worker.engine.measure.metrics.paired import PairedMetrics
from worker.engine.measure.running import Arrays, PairedOutputs, Run, filled

ROWS_AT_ONCE: Final = 32
MOST_ROWS: Final = 512
"""A device is asked for no more: under an emulator 450 small pictures take half a minute."""
MOST_BYTES: Final = 128 << 20
"""Of inputs: 223 pictures of 3 x 224 x 224 in float32."""


@dataclass(frozen=True)
class RecordedBatch:
    """Rows in files of the recording's folder: `.npz` with arrays by name, and labels as `.npy` if there are any.

    A model of a fixed batch is given whole batches: only the first `rows` of each array count.
    """

    rows: int
    feeds: Path
    host: Path
    """What the artifact answered here."""
    original: Path
    labels: Path | None


@dataclass
class Agreement:
    """Answers that are alike: the arg max over the axis of the classes, for each row, token or pixel."""

    axis: int | None
    """None: the output holds no scores, and nothing is counted."""

    answers: int = 0
    alike: int = 0

    def add(self, scores: np.ndarray, others: np.ndarray) -> None:
        """Take in two arrays of scores."""
        if self.axis is not None and scores.shape == others.shape:
            alike = (scores.argmax(self.axis) == others.argmax(self.axis)) & np.isfinite(others).all(self.axis)
            self.answers += alike.size
            self.alike += int(alike.sum())

    @property
    def share(self) -> float | None:
        """None where nothing was compared."""
        return self.alike / self.answers if self.answers else None


@dataclass(frozen=True)
class Compared:
    """A device's answers against the original's and this machine's; the fields are those of `DeviceRun`."""

    rows: int
    metrics: tuple[MetricChange, ...]
    agreement: float | None
    agreement_original: float | None
    bit_exact: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """What was recorded, in the order of the rows."""

    batches: tuple[RecordedBatch, ...]
    labelled: bool
    """Whether the rows are for testing: metrics need that."""
    metrics: tuple[MetricName, ...]
    output: str | None
    """The output that is judged; None: the first."""
    class_axis: int | None = None
    """The axis of its classes; None: it holds no scores."""

    @property
    def rows(self) -> int:
        """How many rows were recorded."""
        return sum(batch.rows for batch in self.batches)

    def split(self, folder: Path, most: int) -> "Recording":
        """The same rows in batches of at most `most`, for a model that takes any number; files go into `folder`."""
        folder.mkdir(parents=True)
        pieces = (piece for batch in self.batches for piece in _pieces(batch, folder, most))
        return replace(self, batches=tuple(pieces))

    def compare(self, answers: Iterable[Arrays], provenance: Provenance = "measured") -> Compared:
        """Judge a device by its outputs by name, for each batch in order; the last ones may be left out.

        Raises `AnswersMissing` where it left out all, or an output.
        """
        metrics = PairedMetrics(self.metrics if self.labelled else (), self.output)
        here, original, exact, rows = Agreement(self.class_axis), Agreement(self.class_axis), True, 0
        for batch, device in zip(self.batches, answers, strict=False):
            host, first = loaded(batch.host, batch.rows), loaded(batch.original, batch.rows)
            if missing := sorted(host.keys() - device.keys()):
                raise AnswersMissing(f"It returned no output named {missing[0]!r}.")
            got = {name: array[: batch.rows] if array.ndim else array for name, array in device.items()}
            exact = exact and all(np.array_equal(host[name], got[name], equal_nan=_floats(host[name])) for name in host)
            judged = self.output or next(iter(host))
            here.add(host[judged], got[judged])
            original.add(first[judged], got[judged])
            labels = None if batch.labels is None else np.load(batch.labels, allow_pickle=False)
            metrics.add(PairedOutputs(first, got, labels))
            rows += batch.rows
        if not rows:
            raise AnswersMissing("It returned no outputs at all.")
        changes, notes = metrics.changes()
        changes = tuple(change.model_copy(update={"provenance": provenance}) for change in changes)
        return Compared(rows, changes, here.share, original.share, exact, notes)


def record(
    folder: Path, rows: AnyRows, batch: BatchRange, original: Run, artifact: Run, seed: int
) -> Iterator[RecordedBatch]:
    """Write rows and both answers into `folder`, at most `MOST_ROWS` and `MOST_BYTES` of them."""
    folder.mkdir(parents=True)
    few = rows if isinstance(rows, SyntheticRows) else rows.sample(MOST_ROWS, seed)
    size, written = batch.nearest(ROWS_AT_ONCE), 0
    for number, (feeds, labels) in enumerate(few.batches(size)):
        written += sum(array.nbytes for array in feeds.values())
        if number and written > MOST_BYTES:
            return
        count = max((len(array) for array in feeds.values() if array.ndim), default=1)
        full = feeds if batch.nearest(count) <= count else filled(feeds, batch.nearest(count))
        stem = f"{number:04}"
        labelled = None if labels is None else folder / f"labels-{stem}.npy"
        if labelled is not None and labels is not None:
            np.save(labelled, labels, allow_pickle=False)
        yield RecordedBatch(
            rows=count,
            feeds=stored(folder / f"rows-{stem}.npz", full),
            host=stored(folder / f"host-{stem}.npz", artifact(full)),
            original=stored(folder / f"original-{stem}.npz", original(full)),
            labels=labelled,
        )


def _pieces(batch: RecordedBatch, folder: Path, most: int) -> Iterator[RecordedBatch]:
    whole = {path: loaded(path, batch.rows) for path in (batch.feeds, batch.host, batch.original)}
    labels = None if batch.labels is None else np.load(batch.labels, allow_pickle=False)
    for start in range(0, batch.rows, most):
        rows = slice(start, start + most)
        feeds, host, original = (
            stored(
                folder / f"{path.stem}-{start:02}.npz",
                {name: array[rows] if array.ndim else array for name, array in arrays.items()},
            )
            for path, arrays in whole.items()
        )
        labelled = None if labels is None else folder / f"labels-{feeds.stem}.npy"
        if labelled is not None and labels is not None:
            np.save(labelled, labels[rows], allow_pickle=False)
        yield RecordedBatch(min(most, batch.rows - start), feeds, host, original, labelled)


def stored(path: Path, arrays: Arrays) -> Path:
    """Write arrays by name."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types its own option as if it came last
    return path


def loaded(path: Path, rows: int | None = None) -> Arrays:
    """Arrays by name, their first `rows` if given."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name][:rows] if file[name].ndim else file[name] for name in file.files}


def _floats(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"
