"""The networks that recipes are tried on: each is trained here, from several random starts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.spec.data import DatasetSpec
from bench.results import recipes
from bench.results.recipes import Recipe
from bench.results.running import Files
from examples import digits

FEW_LABELS = 300
VALIDATION_ROWS = 200
BYTES_TO_FLOAT = DatasetSpec.model_validate({"preprocess": {"input": [{"type": "to_float"}]}})


@dataclass(frozen=True)
class Subject:
    """A network, its data, and what is tried on it."""

    name: str
    title: str
    prepare: Callable[[Path, int, bool], Files]
    """Folder, seed, and whether to be quick about it."""
    recipes: Callable[[int], tuple[Recipe, ...]]
    """By epochs of training."""
    epochs: int
    seeds: tuple[int, ...] = (0, 1, 2)
    batches: tuple[int, ...] = (1, 64)


def prepare_digits(folder: Path, seed: int, _quick: bool) -> Files:  # noqa: FBT001
    """The CNN of the demo, trained on 1,000 of the 1,797 digits."""
    digits.export_pt2(digits.train_digits_cnn(seed), folder / "model.pt2")
    return Files(folder / "model.pt2", _digit_rows(folder, slice(digits.TRAIN_ROWS)), BYTES_TO_FLOAT)


def prepare_student(folder: Path, seed: int, _quick: bool) -> Files:  # noqa: FBT001
    """A fresh network a sixteenth of the size, few labels, and the trained CNN as its teacher."""
    digits.export_pt2(digits.train_digits_cnn(seed), folder / "teacher.pt2")
    digits.export_pt2(digits.digits_cnn(seed, width=8).eval(), folder / "model.pt2")
    rows = _digit_rows(folder, slice(seed * FEW_LABELS, (seed + 1) * FEW_LABELS))
    return Files(folder / "model.pt2", rows, BYTES_TO_FLOAT, folder / "teacher.pt2")


def _digit_rows(folder: Path, train: slice) -> dict[str, Path]:
    images, labels = digits.all_digits()
    unseen = digits.TRAIN_ROWS
    parts = {
        "train": train,
        "validation": slice(unseen, unseen + VALIDATION_ROWS),
        "test": slice(unseen + VALIDATION_ROWS, None),
    }
    for name, part in parts.items():
        np.savez(folder / f"{name}.npz", input=images[part], y=labels[part])
    return {name: folder / f"{name}.npz" for name in parts}


SUBJECTS = (
    Subject(
        "digits",
        "A small CNN on handwritten digits",
        prepare_digits,
        lambda epochs: (*recipes.alone(epochs), *recipes.chains(epochs)),
        epochs=10,
    ),
    Subject("students", "A student with and without a teacher", prepare_student, recipes.students, epochs=40),
)
