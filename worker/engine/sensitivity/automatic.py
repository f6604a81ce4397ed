"""Choosing by measurement which layers of a plan stay in floating point, and which bear 4-bit weights."""

from bisect import bisect_left
from dataclasses import dataclass, replace

from app.spec.quantize import Budget
from worker.engine.data import Rows
from worker.engine.errors import BudgetTooTight
from worker.engine.model import Model, new_folder
from worker.engine.onnx_file import save
from worker.engine.passes import Context
from worker.engine.plan import Grid, StaticPlan
from worker.engine.sensitivity.choice import Stage, stages
from worker.engine.sensitivity.subject import Subject
from worker.engine.sensitivity.sweep import FLOAT, Choice, Sweep, graph_runner, sweep
from worker.engine.sensitivity.yardstick import Reading, Yardstick
from worker.engine.targets.onnx_profiles import PROFILES
from worker.engine.targets.onnx_static import lower_static

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
    """A plan that keeps the budget, and how it was found."""

    plan: StaticPlan
    sweep: Sweep
    choice: Choice
    predicted: float
    measured: Reading
    whole: tuple[float, Reading]
    """Predicted noise and what was measured, with every layer as narrow as allowed."""
    float_top1: float | None
    held_out: bool
    """Whether the measurement is on rows that played no part in calibration."""


class Search:
    """Plans by choice of bits, measured on rows apart from those of the sweep."""

    def __init__(self, model: Model, plan: StaticPlan, narrow: int | None, context: Context) -> None:
        """Sweep over the sources of noise of a plan that quantizes all it can."""
        self.model, self.plan, self.context = model, plan, context
        self.subject = Subject.of(plan)
        widths = (8,) if narrow is None else (narrow, 8)
        rows = context.data["calibration"].sample(SWEEP_ROWS, context.seed)
        self.sweep = sweep(self.subject, self.yardstick(rows), widths, context)
        self.stages = list(stages(self.sweep, narrow))

    def yardstick(self, rows: Rows) -> Yardstick:
        """The float graph's outputs on some rows."""
        original = graph_runner(self.plan.graph, self.context)
        return Yardstick(original, rows, self.model.signature, new_folder(self.context.scratch))

    def planned(self, choice: Choice) -> StaticPlan:
        """The plan with each layer at its bits."""
        floating = [layer.name for layer, bits in choice.items() if bits == FLOAT]
        nodes = self.subject.nodes_without(floating)
        kept = frozenset(nodes)
        means = {name: mean for name, mean in self.plan.input_means.items() if name in kept}
        return replace(self.plan, nodes=nodes, input_means=means, grids={**self.plan.grids, **self._grids(choice)})

    def _grids(self, choice: Choice) -> dict[str, Grid]:
        """Codes of the narrow weights; one that another layer wants wider stays wide."""
        wide = {layer.weight for layer, bits in choice.items() if bits >= 8}
        return {
            layer.weight: self.subject.grid(layer, bits)
            for layer, bits in choice.items()
            if bits < 8 and layer.weight not in wide
        }

    def measured(self, choice: Choice, yardstick: Yardstick) -> Reading:
        """What the lowered graph does: its codes exactly, in floating point, whatever this machine's kernels are."""
        if all(bits == FLOAT for bits in choice.values()):
            return Reading(0.0, yardstick.top1)
        lowered = lower_static(self.planned(choice), PROFILES["x86"])
        path = save(lowered, self.context.scratch / "lowered.onnx")[0]
        return yardstick.read(graph_runner(path, self.context))


def choose(model: Model, plan: StaticPlan, budget: Budget, narrow: int | None, context: Context) -> Chosen:
    """Quantize as much of the plan as the budget allows.

    `narrow` is the bits that weights may have below 8, None: none. Raises `BudgetTooTight`, `CalibrationFailed`.
    """
    search = Search(model, plan, narrow, context)
    rows, held_out = _held_rows(context, labelled=budget.top1_points is not None)
    yardstick = search.yardstick(rows)
    first = search.stages[0]
    whole = search.measured(first.choice, yardstick)
    if budget.sqnr_db is not None:
        stage, reading = _within_noise(search, whole, 10 ** (-budget.sqnr_db / 10), yardstick)
    else:
        stage, reading = _within_points(search, whole, budget.top1_points or 0.0, yardstick)
    if all(bits == FLOAT for bits in stage.choice.values()):
        raise BudgetTooTight(
            f"No layer can be quantized within the budget; all of them together give {whole.sqnr_db:.1f} dB."
        )
    return Chosen(
        search.planned(stage.choice), search.sweep, stage.choice, stage.noise, reading,
        (first.noise, whole), yardstick.top1, held_out,
    )  # fmt: skip


def _held_rows(context: Context, *, labelled: bool) -> tuple[Rows, bool]:
    """Validation rows if the job has them, else calibration rows."""
    count = LABELLED_ROWS if labelled else HELD_ROWS
    validation = context.data.get("validation")
    if validation is not None and len(validation):
        return validation.sample(count, context.seed), True
    return context.data["calibration"].sample(count, context.seed + 1), False


def _within_noise(search: Search, whole: Reading, budget: float, yardstick: Yardstick) -> tuple[Stage, Reading]:
    """The first stage that is measured to keep the budget; each miss tells by what factor predictions are off here.

    Where noise is loud they are: a mobilenet_v2 of 12.6 dB was predicted 7.6, at 20 dB the two are within 2.
    """
    stage, reading = search.stages[0], whole
    while reading.noise > budget:
        aim = min(stage.noise * budget / reading.noise, stage.noise * CLOSER)
        stage = next(stage for stage in search.stages if stage.noise <= aim)
        reading = search.measured(stage.choice, yardstick)
    return stage, reading


def _within_points(search: Search, whole: Reading, points: float, yardstick: Yardstick) -> tuple[Stage, Reading]:
    """The first stage that loses no more top-1, by bisection: a point is no sum of noises, but falls with them."""
    if yardstick.top1 is None:
        raise BudgetTooTight(
            "Top-1 cannot be measured: the labels are no classes of the first output.",
            remedy="Give the budget in decibels (sqnr_db), or labels from 0 to the number of scores less one.",
        )
    least = yardstick.top1 - points / 100 - ROUNDING
    readings = {0: whole}

    def keeps(place: int) -> bool:
        if place not in readings:
            readings[place] = search.measured(search.stages[place].choice, yardstick)
        return (readings[place].top1 or 0.0) >= least

    place = 0 if keeps(0) else bisect_left(range(len(search.stages)), True, key=keeps)
    return search.stages[place], readings[place]
