"""The networks that recipes are tried on: each is trained here, from several random starts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from app.spec.data import DatasetSpec
from bench.results import recipes
from bench.results.recipes import Recipe
from bench.results.running import Files
from examples import digits, shapes

FEW_LABELS = 100
VALIDATION_ROWS = 200


def bytes_to_float(name: str) -> DatasetSpec:
    """Rows of bytes for the input `name`, scaled to 0..1."""
    return DatasetSpec.model_validate({"preprocess": {name: [{"type": "to_float"}]}})


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
    """At which speed is measured. None: every recipe leaves the same network behind, and only top-1 is told."""


def prepare_digits(folder: Path, seed: int, _quick: bool) -> Files:  # noqa: FBT001
    """The CNN of the demo, trained on 1,000 of the 1,797 digits."""
    digits.export_pt2(digits.train_digits_cnn(seed), folder / "model.pt2")
    return Files(folder / "model.pt2", _digit_rows(folder, slice(digits.TRAIN_ROWS)), bytes_to_float("input"))


def prepare_student(folder: Path, seed: int, _quick: bool) -> Files:  # noqa: FBT001
    """A fresh network a sixtieth of the size, 100 labels, and the trained CNN as its teacher."""
    digits.export_pt2(digits.train_digits_cnn(seed), folder / "teacher.pt2")
    digits.export_pt2(digits.digits_cnn(seed, width=4).eval(), folder / "model.pt2")
    rows = _digit_rows(folder, slice(seed * FEW_LABELS, (seed + 1) * FEW_LABELS))
    return Files(folder / "model.pt2", rows, bytes_to_float("input"), folder / "teacher.pt2")


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


def prepare_shapes(folder: Path, seed: int, quick: bool) -> Files:  # noqa: FBT001
    """A small ResNet, trained on 20,000 of 24,000 procedural 32x32 images of 24 shapes."""
    train = 1000 if quick else shapes.TRAIN_ROWS
    images, labels = shapes.shapes(shapes.COUNT - shapes.TRAIN_ROWS + train, seed)
    torch.manual_seed(seed)
    model = shapes.train(shapes.SmallResNet(), images[:train], labels[:train], epochs=1 if quick else 10, seed=seed)
    shapes.export_pt2(model, folder / "model.pt2")
    middle = train + (shapes.COUNT - shapes.TRAIN_ROWS) // 4
    parts = {"train": slice(train), "validation": slice(train, middle), "test": slice(middle, None)}
    for name, part in parts.items():
        np.savez(folder / f"{name}.npz", image=images[part], y=labels[part])
    rows = {name: folder / f"{name}.npz" for name in parts}
    return Files(
        folder / "model.pt2", rows, DatasetSpec.model_validate({"preprocess": {"image": [{"type": "to_float"}]}})
    )


SUBJECTS = (
    Subject(
        "digits",
        "A small CNN on handwritten digits",
        prepare_digits,
        lambda epochs: (*recipes.alone(epochs), *recipes.chains(epochs)),
        epochs=10,
    ),
    Subject("shapes", "A small ResNet on procedural images", prepare_shapes, recipes.pictures, epochs=12),
    Subject(
        "students", "A student with and without a teacher", prepare_student, recipes.students, epochs=40, batches=()
    ),
)
