"""Rows and answers on disk, and how a device's answers are judged by them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from worker.engine.data.rows import Rows
from worker.engine.devices.errors import AnswersMissing
from worker.engine.devices.recording import Recording, loaded, record
from worker.engine.measure.batching import BatchRange
from worker.engine.measure.running import Arrays

CLASSES = 4


def scores(feeds: Arrays) -> Arrays:
    """Whoever has the largest value wins."""
    return {"scores": feeds["x"].astype(np.float32)}


def shifted(feeds: Arrays) -> Arrays:
    """Answers wrongly throughout."""
    return {"scores": np.roll(feeds["x"], 1, axis=1).astype(np.float32)}


def made(folder: Path, batch: BatchRange, rows: int = 70) -> Recording:
    x = np.random.default_rng(0).normal(size=(rows, CLASSES)).astype(np.float32)
    held = Rows({"x": Whole(x)}, {}, np.arange(rows), labels=Whole(x.argmax(axis=1)))
    return Recording(
        tuple(record(folder / "recording", held, batch, scores, scores, seed=0)),
        labelled=True,
        metrics=("top1",),
        output=None,
        class_axis=1,
    )


class Whole:
    """A column in memory."""

    uniform = True

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows]


def answers(recording: Recording, run: object = scores) -> Iterator[Arrays]:
    return (run(loaded(batch.feeds)) for batch in recording.batches)  # type: ignore[operator]


@pytest.mark.parametrize("batch", [BatchRange(1, 100), BatchRange(16, 16), BatchRange(8, 100)], ids=str)
def test_the_same_answers_agree_in_every_bit(batch: BatchRange, tmp_path: Path) -> None:
    recording = made(tmp_path, batch)

    compared = recording.compare(answers(recording), "emulated")

    assert recording.rows == compared.rows == 70
    assert compared.bit_exact
    assert (compared.agreement, compared.agreement_original) == (1, 1)
    (top1,) = compared.metrics
    assert (top1.before, top1.after, top1.rows, top1.provenance) == (1, 1, 70, "emulated")
    assert all(len(loaded(one.feeds)["x"]) in batch for one in recording.batches)


def test_other_answers_are_told_from_the_worker_s(tmp_path: Path) -> None:
    recording = made(tmp_path, BatchRange(1, 100))

    compared = recording.compare(answers(recording, shifted))

    assert not compared.bit_exact
    assert compared.agreement == 0
    assert compared.metrics[0].drop == 1


def test_a_device_may_answer_the_first_rows_only(tmp_path: Path) -> None:
    recording = made(tmp_path, BatchRange(1, 100))

    compared = recording.compare([next(answers(recording))])

    assert compared.rows == compared.metrics[0].rows == 32


def test_a_missing_output_is_named(tmp_path: Path) -> None:
    recording = made(tmp_path, BatchRange(1, 100))

    with pytest.raises(AnswersMissing, match="no output named 'scores'"):
        recording.compare([{"other": np.zeros(32)}])
    with pytest.raises(AnswersMissing, match="no outputs at all"):
        recording.compare([])


def test_no_more_rows_are_recorded_than_a_device_can_take(tmp_path: Path) -> None:
    assert made(tmp_path, BatchRange(1, 100), rows=2000).rows == 512


def test_smaller_batches_hold_the_same_rows(tmp_path: Path) -> None:
    whole = made(tmp_path, BatchRange(1, 100))
    pieces = whole.split(tmp_path / "pieces", 5)

    assert max(batch.rows for batch in pieces.batches) == 5
    assert pieces.rows == whole.rows == 70
    assert pieces.compare(answers(pieces)) == whole.compare(answers(whole))
    few = pieces.compare(list(answers(pieces, shifted))[:3])
    assert (few.rows, few.agreement) == (15, 0.0)
