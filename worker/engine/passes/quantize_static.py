"""quantize.static: measure the range of every activation that a target may quantize."""

from dataclasses import replace

import onnx

from app.spec.quantize import Budget, QuantizeStatic
from worker.engine.context import Changed, Context, Fact
from worker.engine.model import Model, new_folder
from worker.engine.plan.activations import activations
from worker.engine.plan.clamps import clamped_by
from worker.engine.plan.errors import NothingToQuantize
from worker.engine.plan.plan import Range, StaticPlan
from worker.engine.plan.selection import quantizable, require_float32_weights, skipped_nodes
from worker.engine.quantization.bias_choice import better_with
from worker.engine.quantization.calibration import calibrate
from worker.engine.quantization.rescaling.rewrite import rescale
from worker.engine.quantization.sensitivity.report import (
    FILE,
    facts_of,
    findings_of,
    layer_chart,
    summary_of,
    tables_of,
    write,
)
from worker.engine.quantization.sensitivity.search import choose
from worker.engine.quantization.sensitivity.static import StaticSearch


def quantize_static(step: QuantizeStatic, model: Model, context: Context) -> Changed:
    """Attach a `StaticPlan` to the model.

    Raises `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`, `BudgetTooTight`.
    """
    plan, facts = measure_plan(step, model, context)
    changed = Changed(
        replace(model, plan=plan),
        f"Measured the ranges of {facts['tensors']} tensors on {plan.samples} rows ({step.observer}); "
        f"{facts['quantized_nodes']} of {facts['nodes']} operators can be quantized.",
        facts,
    )
    return changed if step.budget is None else _within(step.budget, step, changed, plan, context)


def measure_plan(step: QuantizeStatic, model: Model, context: Context) -> tuple[StaticPlan, dict[str, Fact]]:
    """The plan for all that the skip list leaves (skip 'auto': everything), and facts about how it came about.

    Raises `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`.
    """
    nodes, skipped = _chosen(step, model)
    rows = context.data["calibration"].sample(step.samples, context.seed)
    rescaled = rescale(model.prepared, step, rows, context, new_folder(model.folder))
    graph = onnx.load(rescaled.graph, load_external_data=False).graph
    tensors, clamped = activations(graph, frozenset(nodes)), clamped_by(graph, frozenset(nodes))
    count = len(graph.node)
    del graph  # its weights: what follows loads the graph itself
    watched = tuple(name for name in tensors if name not in clamped)
    seen = calibrate(rescaled.graph, watched, nodes, rows, step, context)
    ranges = seen.ranges | {before: seen.ranges[after] for before, after in clamped.items() if after in seen.ranges}
    plan = StaticPlan(
        rescaled.graph, ranges, step.observer, len(rows), nodes, step.per_channel, input_means=seen.input_means
    )
    plan = replace(plan, input_means=better_with(plan, model.signature, context))
    return plan, {
        "observer": step.observer,
        "samples": len(rows),
        "tensors": len(watched),
        "constant_tensors": sum(bounds == Range(0, 0) for bounds in ranges.values()),
        "quantized_nodes": len(nodes),
        "skipped_nodes": skipped,
        "nodes": count,
        **rescaled.facts,
        **({"corrected_biases": len(plan.input_means)} if step.bias_correction else {}),
    }


def _chosen(step: QuantizeStatic, model: Model) -> tuple[tuple[str, ...], int]:
    """Names of the nodes to quantize, and how many the skip list names."""
    graph = onnx.load(model.prepared, load_external_data=False).graph
    original = onnx.load(model.graph, load_external_data=False).graph
    skipped = skipped_nodes(step.named, original, graph)
    nodes = quantizable(graph, skipped)
    if not nodes:
        require_float32_weights(original)
        raise NothingToQuantize("No convolution or matrix product with a constant float32 weight is left.")
    return nodes, len(skipped)


def _within(budget: Budget, step: QuantizeStatic, changed: Changed, plan: StaticPlan, context: Context) -> Changed:
    """The same with the layers left out, or given fewer bits, that the budget decides on."""
    widths = (4, 8) if step.narrowest == "int4" else (8,)
    search = StaticSearch(plan, widths, "calibration", changed.model.signature, context)
    chosen = choose(search, budget)
    planned = search.planned(chosen.choice)
    findings = findings_of(chosen.sweep)
    return replace(
        changed,
        model=replace(changed.model, plan=planned),
        summary=f"{changed.summary} {summary_of(chosen)}",
        facts={**changed.facts, **facts_of(chosen), "quantized_nodes": len(planned.nodes)},
        charts=(layer_chart(findings),),
        tables=tables_of(chosen, findings),
        files={FILE: write(findings, chosen.float_right_answers, context.scratch / FILE)},
    )
