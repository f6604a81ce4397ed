"""Sensitivity as a table, a picture and data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.spec.metrics import TOP1
from app.spec.report import MOST_POINTS, Chart, Table
from app.spec.units import counted
from worker.engine.context import Fact
from worker.engine.quantization.sensitivity.reference import OutputLoss, decibels
from worker.engine.quantization.sensitivity.search import Chosen
from worker.engine.quantization.sensitivity.sweep import FLOAT, Sweep
from worker.engine.report_bars import layer_bars

FILE = "sensitivity.json"


@dataclass(frozen=True)
class LayerFinding:
    """What it costs to do something to one layer alone."""

    layer: str
    operator: str
    weights: int
    readings: Mapping[str, OutputLoss]
    """By what was done ("8 bits"); the same keys for every layer."""


def findings_of(sweep: Sweep) -> tuple[LayerFinding, ...]:
    """Each layer quantized alone, with the activations around it, by the sum of its sources of noise."""
    return tuple(
        LayerFinding(
            layer.name,
            layer.operator,
            layer.weights,
            {f"{bits} bits": OutputLoss(sweep.alone(layer, bits), None) for bits in sweep.widths},
        )
        for layer in sweep.subject.layers
    )


def layer_table(
    findings: Sequence[LayerFinding], right_answers: float | None = None, chosen: Sequence[str] = ()
) -> Table:
    """One row for each layer. `right_answers` is the original's; `chosen` what each layer got."""
    done = tuple(findings[0].readings)
    columns = ["Layer", "Operator", "Weights", *(f"{width}, dB" for width in done)]
    rows = [
        [
            finding.layer,
            finding.operator,
            finding.weights,
            *(round(reading.sqnr_db, 2) for reading in finding.readings.values()),
        ]
        for finding in findings
    ]
    if right_answers is not None:
        columns += [f"{width}, top-1 points lost" for width in done]
        for row, finding in zip(rows, findings, strict=True):
            row += [points_lost(right_answers, reading.right_answers) for reading in finding.readings.values()]
    if chosen:
        columns.append("Chosen")
        for row, name in zip(rows, chosen, strict=True):
            row.append(name)
    return Table(
        title="Sensitivity by layer", columns=tuple(columns), rows=tuple(tuple(row) for row in rows[:MOST_POINTS])
    )


def layer_chart(findings: Sequence[LayerFinding]) -> Chart:
    """Decibels as bars: the shorter, the more sensitive."""
    values = {done: [finding.readings[done].sqnr_db for finding in findings] for done in findings[0].readings}
    title = "Signal to noise of the outputs, one layer changed at a time"
    return layer_bars(title, "dB", [finding.layer for finding in findings], values)


def write(findings: Sequence[LayerFinding], right_answers: float | None, path: Path) -> Path:
    """Write every finding as JSON: decibels, and the top-1 that is left where there are labels."""
    layers = [
        {
            "layer": finding.layer,
            "operator": finding.operator,
            "weights": finding.weights,
            "readings": {
                done: {"sqnr_db": reading.sqnr_db, TOP1.name: reading.right_answers}
                for done, reading in finding.readings.items()
            },
        }
        for finding in findings
    ]
    path.write_text(json.dumps({TOP1.name: right_answers, "layers": layers}, indent=1), encoding="utf-8")
    return path


def points_lost(before: float | None, after: float | None) -> float | None:
    """Top-1 lost, in points."""
    return None if before is None or after is None else round(100 * (before - after), 2)


def facts_of(chosen: Chosen) -> dict[str, Fact]:
    """What was chosen, and how well that was predicted."""
    bits = list(chosen.choice.values())
    weights = sum(layer.weights for layer in chosen.choice)
    facts: dict[str, Fact] = {
        "layers": len(bits),
        "layers_float": bits.count(FLOAT),
        **{f"layers_int{width}": bits.count(width) for width in sorted({4, 8, *chosen.sweep.widths}, reverse=True)},
        "weight_bits": sum(layer.weights * width for layer, width in chosen.choice.items()) / weights,
        "predicted_sqnr_db": decibels(chosen.predicted),
        "measured_sqnr_db": chosen.measured.sqnr_db,
    }
    lost = points_lost(chosen.float_right_answers, chosen.measured.right_answers)
    return facts if lost is None else {**facts, f"measured_{TOP1.name}_points_lost": lost}


def summary_of(chosen: Chosen) -> str:
    """The choice in a sentence for the report: layers by bits."""
    bits = list(chosen.choice.values())
    widths = [width for width in chosen.sweep.widths if width in bits and len(chosen.sweep.widths) > 1]
    others = "".join(f", {bits.count(width)} have {width}-bit weights" for width in reversed(widths))
    return (
        f"To keep the budget, {bits.count(FLOAT)} of {counted(len(bits), 'layer')} stay in floating point{others}: "
        f"{decibels(chosen.predicted):.1f} dB were predicted, {chosen.measured.sqnr_db:.1f} dB measured."
    )


def tables_of(
    chosen: Chosen, findings: Sequence[LayerFinding], trained: OutputLoss | None = None
) -> tuple[Table, Table]:
    """Prediction against measurement, that after training included, and every layer with what it got."""
    return predictions(chosen, trained), layer_table(findings, chosen=chosen_names(chosen))


def chosen_names(chosen: Chosen) -> tuple[str, ...]:
    """What each layer got."""
    return tuple("float" if bits == FLOAT else f"int{bits}" for bits in chosen.choice.values())


def predictions(chosen: Chosen, trained: OutputLoss | None = None) -> Table:
    """Prediction against measurement."""
    rows: list[tuple[str, float | None, OutputLoss]] = [
        ("every layer quantized", *chosen.whole),
        ("as chosen", chosen.predicted, chosen.measured),
    ]
    if trained is not None:
        rows.append(("as trained", None, trained))
    return Table(
        title=f"Prediction and measurement on {chosen.role} rows",
        columns=("Model", "Predicted, dB", "Measured, dB", "Top-1 points lost"),
        rows=tuple(
            (
                name,
                None if noise is None else round(decibels(noise), 2),
                round(read.sqnr_db, 2),
                points_lost(chosen.float_right_answers, read.right_answers),
            )
            for name, noise, read in rows
        ),
    )
