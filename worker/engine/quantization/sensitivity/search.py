"""Choosing by measurement how many bits each layer gets, whatever is quantized."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from app.spec.job import Role
from app.spec.quantize import Budget
from app.spec.signature import Signature
from worker.engine.context import Context
from worker.engine.data.rows import Rows
from worker.engine.errors import EngineError
from worker.engine.model import new_folder
from worker.engine.onnx_graph.file import save
from worker.engine.quantization.sensitivity.greedy import Stage, stages
from worker.engine.quantization.sensitivity.reference import OutputLoss, ReferenceOutputs
from worker.engine.quantization.sensitivity.sweep import FLOAT, Choice, Divisible, Sweep, graph_runner, sweep


class BudgetTooTight(EngineError):
    """With skip 'auto' no layer could be quantized: each one alone costs more than the budget."""

    code = "step.budget_too_tight"
    remedy = "Allow more noise (a smaller sqnr_db) or more lost points, or train the model to be quantized."


SWEEP_ROWS = 32
"""Noise is a mean over rows and outputs; what few rows leave open the measurement on other rows settles."""
HELD_ROWS = 256
LABELLED_ROWS = 2000
"""Rows that tell a point of top-1; each counts a twentieth of it."""
ROUNDING = 1e-9
"""Of a share of rows."""
CLOSER = 1 - 1e-6
"""Of a stage's noise: what the next stage must be below."""


@dataclass(frozen=True)
class Chosen:
    """Bits that keep the budget, and how they were found."""

    sweep: Sweep
    choice: Choice
    predicted: float
    measured: OutputLoss
    whole: tuple[float, OutputLoss]
    """Predicted noise and what was measured, with every layer as narrow as allowed."""
    reference_outputs: ReferenceOutputs
    """What it was measured by."""
    role: Role
    """Of the rows that it was measured on."""

    @property
    def float_right_answers(self) -> float | None:
        """Top-1 of the float model on these rows; None without class labels."""
        return self.reference_outputs.right_answers

    def layers_with(self, bits: int) -> frozenset[str]:
        """Names of the layers that got so many bits."""
        return frozenset(layer.name for layer, width in self.choice.items() if width == bits)


class Search(ABC):
    """Models by choice of bits, measured on rows apart from those of the sweep."""

    def __init__(
        self,
        graph: Path,
        subject: Divisible,
        widths: Sequence[int],
        role: Role,
        signature: Signature,
        context: Context,
        wide: Collection[str] = (),
    ) -> None:
        """Sweep over the sources of noise in the float `graph`, with weights of each width, on some rows of a `role`.

        `widths` are bits, ascending; the layers named in `wide` have the most of them at least.
        """
        self.graph, self.role, self.signature, self.context = graph, role, signature, context
        self.sweep = sweep(
            subject, self.reference_outputs(context.data[role].sample(SWEEP_ROWS, context.seed)), widths, context
        )
        start = {layer: widths[-1] if layer.name in wide else widths[0] for layer in subject.layers}
        self.stages = list(stages(self.sweep, start))

    @abstractmethod
    def lowered(self, choice: Choice) -> ModelProto:
        """The graph with each layer at its bits, as it would be delivered."""

    def reference_outputs(self, rows: Rows) -> ReferenceOutputs:
        """The float graph's outputs on some rows."""
        original = graph_runner(self.graph, self.context)
        return ReferenceOutputs(original, rows, self.signature, new_folder(self.context.scratch))

    def measured(self, choice: Choice, reference_outputs: ReferenceOutputs) -> OutputLoss:
        """What the lowered graph does: its codes exactly, in floating point, whatever this machine's kernels are."""
        if all(bits == FLOAT for bits in choice.values()):
            return OutputLoss(0.0, reference_outputs.right_answers)
        path = save(self.lowered(choice), self.context.scratch / "lowered.onnx")[0]
        return reference_outputs.read(graph_runner(path, self.context))


def choose(search: Search, budget: Budget) -> Chosen:
    """Quantize as much as the budget allows. Raises `BudgetTooTight`."""
    rows, role = _held_rows(search, labelled=budget.top1_points is not None)
    reference_outputs = search.reference_outputs(rows)
    first = search.stages[0]
    whole = search.measured(first.choice, reference_outputs)
    if budget.sqnr_db is not None:
        stage, reading = _within_noise(search, whole, 10 ** (-budget.sqnr_db / 10), reference_outputs)
    else:
        stage, reading = _within_points(search, whole, budget.top1_points or 0.0, reference_outputs)
    if all(bits == FLOAT for bits in stage.choice.values()):
        raise BudgetTooTight(
            f"No layer can be quantized within the budget; all of them together give {whole.sqnr_db:.1f} dB."
        )
    return Chosen(search.sweep, stage.choice, stage.noise, reading, (first.noise, whole), reference_outputs, role)


def _held_rows(search: Search, *, labelled: bool) -> tuple[Rows, Role]:
    """Validation rows if the job has them, else of those that the sweep is on."""
    context, count = search.context, LABELLED_ROWS if labelled else HELD_ROWS
    validation = context.data.get("validation")
    if validation is not None and len(validation):
        return validation.sample(count, context.seed), "validation"
    return context.data[search.role].sample(count, context.seed + 1), search.role


def _within_noise(
    search: Search, whole: OutputLoss, budget: float, reference_outputs: ReferenceOutputs
) -> tuple[Stage, OutputLoss]:
    """The first stage that is measured to keep the budget; each miss tells by what factor predictions are off here.

    Where noise is loud they are: a mobilenet_v2 of 12.6 dB was predicted 7.6, at 20 dB the two are within 2.
    """
    stage, reading = search.stages[0], whole
    while reading.noise > budget:
        aim = min(stage.noise * budget / reading.noise, stage.noise * CLOSER)
        stage = next(stage for stage in search.stages if stage.noise <= aim)
        reading = search.measured(stage.choice, reference_outputs)
    return stage, reading


def _within_points(
    search: Search, whole: OutputLoss, points: float, reference_outputs: ReferenceOutputs
) -> tuple[Stage, OutputLoss]:
    """The first stage that loses no more top-1, by bisection: a point is no sum of noises, but falls with them."""
    if reference_outputs.right_answers is None:
        raise BudgetTooTight(
            "Top-1 cannot be measured: the labels are no classes of the first output.",
            remedy="Give the budget in decibels (sqnr_db), or labels from 0 to the number of scores less one.",
        )
    least = reference_outputs.right_answers - points / 100 - ROUNDING
    readings = {0: whole}

    def keeps(place: int) -> bool:
        if place not in readings:
            readings[place] = search.measured(search.stages[place].choice, reference_outputs)
        return (readings[place].right_answers or 0.0) >= least

    place = 0 if keeps(0) else bisect_left(range(len(search.stages)), True, key=keeps)
    return search.stages[place], readings[place]
