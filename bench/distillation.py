"""What a teacher is worth on few labels.

A student of an eighth of the demo's width learns scikit-learn's digits from 100 labelled images, alone and from the
demo's network, with every distance, temperature and share of the teacher; 100 other images choose the best epoch. Then
the demo's network itself is trained for few bits on the same images, from labels alone and from its own answers, too.
Top-1 is taken on 797 images that no training has seen; what a training leaves out has the default of its step.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from app.spec.distill import Distill, DistillLoss
from app.spec.finetune import FineTune
from app.spec.quantize_aware import QuantizeAware
from app.spec.training import Training
from bench.harness.figures import Figure
from bench.harness.scene import Scene
from examples import digits
from tests.support.engine.orders import lowered, outputs_of
from tests.support.engine.trainings import digits_model, digits_rows, top1, training_context
from worker.engine.context import Changed
from worker.engine.data.rows import Rows
from worker.engine.model import Model
from worker.engine.passes.table import apply_step

SEEDS = (0, 1, 2)
WIDTH = 4
PLAN = {"epochs": 12, "batch": 32, "learning_rate": 0.01}
AWARE = {"epochs": 5, "batch": 32}
TEMPERATURES: dict[DistillLoss, tuple[float, ...]] = {
    "dist": (1, 2, 4),
    "kd": (1, 2, 4, 8),
    "kd_standardized": (1, 2, 4),
    "mse": (1,),
}
ALPHAS = (0.3, 0.5, 0.7, 0.9)
BITS = (("int2", "int8"), ("int4", "int4"))


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    seeds = scene.pick(SEEDS, SEEDS[:1])
    setting = Setting(scene.folder)
    figures = [
        _figure("student, labels alone", [setting.student(FineTune.model_validate(PLAN), seed) for seed in seeds])
    ]
    for name, step in scene.pick(list(_sweep()), list(_sweep())[:1]):
        scene.say(name)
        figures.append(_figure(name, [setting.student(step, seed) for seed in seeds]))
    for weights, activations in scene.pick(BITS, BITS[:1]):
        for answers in scene.pick((None, "dist", "kd", "mse"), (None, "dist")):
            name = f"{weights} weights, {activations} activations, {answers or 'labels alone'}"
            scene.say(name)
            step = QuantizeAware(weights=weights, activations=activations, distill=answers, **AWARE)
            figures.append(_figure(name, [setting.qat(step, seed) for seed in seeds]))
    return figures


class Setting:
    """The rows, and the network that teaches."""

    def __init__(self, folder: Path) -> None:
        """Train the teacher, once."""
        self.folder = folder
        self.teacher = digits_model(digits.train_digits_cnn(seed=0), folder)
        self.train, self.validation = digits_rows(folder, slice(0, 100)), digits_rows(folder, slice(200, 300))
        self.test = digits_rows(folder, slice(digits.TRAIN_ROWS, None))

    def student(self, step: Training, seed: int) -> float:
        """Top-1 of a fresh student after a step, in percent."""
        fresh = digits_model(digits.digits_cnn(seed, WIDTH).eval(), self.folder)
        return 100 * top1(self._taken(step, fresh, seed).model, self.test)

    def qat(self, step: QuantizeAware, seed: int) -> float:
        """Top-1 of the teacher's integer kernels after a step, in percent."""
        file = lowered(self._taken(step, self.teacher, seed).model, "x86", self.folder)
        return 100 * _right(file, self.test)

    def _taken(self, step: Training, model: Model, seed: int) -> Changed:
        rows = {"train": self.train, "validation": self.validation}
        context = training_context(self.folder, rows, seed=seed)
        return apply_step(step, model, replace(context, original=self.teacher))


def _sweep() -> Iterator[tuple[str, Distill]]:
    """Every training of a student with a teacher, by the name of its figure."""
    for loss, temperatures in TEMPERATURES.items():
        for temperature in temperatures:
            given = {} if loss == "mse" else {"temperature": temperature}
            for alpha in ALPHAS:
                step = Distill.model_validate(PLAN | {"loss": loss, "alpha": alpha} | given)
                softened = f", temperature {temperature:g}" if given else ""
                yield f"student, {loss}{softened}, alpha {alpha:g}", step


def _figure(name: str, percentages: list[float]) -> Figure:
    return Figure.mean_of(name, percentages, "%")


def _right(file: Path, rows: Rows) -> float:
    return fmean(
        float((outputs_of(file, inputs)[0].argmax(1) == labels).mean()) for inputs, labels in rows.batches(len(rows))
    )
