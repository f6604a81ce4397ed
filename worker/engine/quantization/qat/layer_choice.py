"""skip 'auto' of a training: what rounding costs before it decides which layers bear few bits, 8, or none."""

from dataclasses import dataclass

from app.spec.metrics import TOP1
from app.spec.quantize_aware import QuantizeAware
from worker.engine.context import Changed, Context
from worker.engine.lowering.onnx.profiles import PROFILES
from worker.engine.lowering.onnx.static import lower_static
from worker.engine.model import Model
from worker.engine.onnx_graph.file import save
from worker.engine.plan.plan import StaticPlan
from worker.engine.quantization.qat.qat_model import QatModel, qat_model_of, ranges_of, spread
from worker.engine.quantization.qat.scales import BITS, activation_grids, edges_of
from worker.engine.quantization.sensitivity.report import (
    FILE,
    facts_of,
    findings_of,
    layer_chart,
    points_lost,
    summary_of,
    tables_of,
    write,
)
from worker.engine.quantization.sensitivity.roundable_graph import NarrowInputs
from worker.engine.quantization.sensitivity.search import Chosen, choose
from worker.engine.quantization.sensitivity.static import StaticSearch
from worker.engine.quantization.sensitivity.sweep import FLOAT, graph_runner

TRAINED_NOTE = (
    "Training changes the answers on purpose: what it made of the chosen bits is told by top-1, not by decibels."
)


@dataclass(frozen=True)
class LayerChoice:
    """The layers that are not rounded as the step says."""

    subject: QatModel
    floating: frozenset[str] = frozenset()
    """Nodes left in floating point."""
    wide: frozenset[str] = frozenset()
    """Nodes of layers with 8 bits."""
    chosen: Chosen | None = None


def choose_layers(step: QuantizeAware, model: Model, context: Context) -> LayerChoice:
    """Decide on the layers of a model without batch norms.

    Raises `BudgetTooTight`, `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`.
    """
    subject = qat_model_of(model, step.named)
    edges = edges_of(step, subject.placed)
    if step.budget is None:
        return LayerChoice(subject, wide=edges)
    chosen = choose(_search(step, subject, edges, context), step.budget)
    floating = chosen.layers_with(FLOAT)
    wide = edges | (chosen.layers_with(8) if BITS[step.weights] < 8 else frozenset())
    return LayerChoice(qat_model_of(model, step.named, floating), floating, wide - floating, chosen)


def _search(step: QuantizeAware, subject: QatModel, edges: frozenset[str], context: Context) -> StaticSearch:
    """Variants of the plan that the training would begin with."""
    graph, bits = subject.model.prepared, BITS[step.weights]
    rows = context.data.get("calibration", context.data["train"]).sample(step.samples, context.seed)
    sources = tuple(dict.fromkeys(subject.placed.scale_of.values()))
    eight = spread(subject, activation_grids(graph, dict.fromkeys(sources, 8), rows, context))
    plan = StaticPlan(graph, ranges_of(subject, eight), "mse", len(rows), subject.nodes, per_channel=True)
    inputs, few = None, BITS[step.activations]
    if few < 8:
        narrow = spread(subject, activation_grids(graph, dict.fromkeys(sources, few), rows, context))
        inputs = NarrowInputs(narrow, bits, edges)
    signature = subject.model.signature
    return StaticSearch(plan, tuple(sorted({bits, 8})), "train", signature, context, inputs, edges)


def with_choice(changed: Changed, chosen: Chosen, plan: StaticPlan, context: Context) -> Changed:
    """The report of a training with what was chosen before it, what that cost then, and what it costs now."""
    lowered = save(lower_static(plan, PROFILES["x86"]), context.scratch / "trained.onnx")[0]
    trained, findings = chosen.reference_outputs.read(graph_runner(lowered, context)), findings_of(chosen.sweep)
    lost = points_lost(chosen.float_right_answers, trained.right_answers)
    after = {"trained_sqnr_db": trained.sqnr_db} | ({} if lost is None else {f"trained_{TOP1.name}_points_lost": lost})
    return Changed(
        changed.model,
        f"{changed.summary} Before training: {summary_of(chosen)}",
        {**changed.facts, **facts_of(chosen), **after},
        charts=(*changed.charts, layer_chart(findings)),
        tables=(*tables_of(chosen, findings, trained), *changed.tables),
        notes=(*changed.notes, TRAINED_NOTE),
        files={**changed.files, FILE: write(findings, chosen.float_right_answers, context.scratch / FILE)},
    )
