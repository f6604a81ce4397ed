"""What the report says of a quantization-aware training, besides its losses."""

import numpy as np

from app.spec.quantize_aware import QuantizeAware
from app.spec.report import MOST_POINTS, Chart, OutputParity, Table
from worker.engine.context import Context, Fact
from worker.engine.quantization.aware.fake_quant import Quantizer
from worker.engine.quantization.aware.student import Student
from worker.engine.quantization.aware.subject import Subject
from worker.engine.report_bars import layer_bars

AGREES = 0.99
"""Share of equal answers below which the difference cannot be ties in rounding alone."""
NAMED = 8
"""Values of the model that a note names before it counts the rest."""


def told(parity: OutputParity | None) -> dict[str, Fact]:
    """How the integer kernels compare with the graph that was trained."""
    if parity is None:
        return {}
    figures: dict[str, Fact | None] = {
        "kernel_agreement": parity.top1_agreement,
        "kernel_sqnr_db": parity.sqnr_db,
        "kernel_rows": parity.rows,
    }
    return {name: value for name, value in figures.items() if value is not None}


def layers_of(subject: Subject, student: Student) -> list[tuple[str, str, Quantizer, Quantizer]]:
    """Parameter and operator of each layer, and the quantizers of its weight and of what it reads."""
    placed = subject.placed
    found = []
    for layer in placed.layers:
        name = student.products[layer.output]
        inputs = student.activations[subject.places[placed.scale_of[layer.inputs]].name]
        found.append((name, layer.operator, student.weights[name], inputs))
    return found[:MOST_POINTS]


def table_of(subject: Subject, student: Student) -> Table:
    """Bits and scales of each layer."""
    return Table(
        title="What was learned for each layer",
        columns=(
            "weight",
            "operator",
            "weight codes",
            "weight scales",
            "input codes",
            "input zero-point",
            "input scale",
        ),
        rows=tuple(
            (
                name,
                operator,
                f"{weights.low} ... {weights.high}",
                _span(weights),
                f"{inputs.low} ... {inputs.high}",
                inputs.zero_point,
                _span(inputs),
            )
            for name, operator, weights, inputs in layers_of(subject, student)
        ),
    )


def chart_of(subject: Subject, student: Student) -> Chart:
    """How far training moved the scales."""
    layers = layers_of(subject, student)
    return layer_bars(
        "Scales after training, relative to those of least squared error",
        "ratio",
        [name for name, *_ in layers],
        {
            "weights": [_moved(weights) for _, _, weights, _ in layers],
            "inputs": [_moved(inputs) for *_, inputs in layers],
        },
    )


def notes(step: QuantizeAware, subject: Subject, parity: OutputParity | None, context: Context) -> tuple[str, ...]:
    """What the reader must know."""
    told_of = []
    if subject.floating:
        named = ", ".join(subject.floating[:NAMED])
        more = f" and {len(subject.floating) - NAMED} more" if len(subject.floating) > NAMED else ""
        told_of.append(f"Left in floating point, because the exported program does not show them: {named}{more}.")
    if step.weights != "int8":
        told_of.append("Kernels multiply 8-bit integers: narrower weights make the file smaller, not the model faster.")
    if any(target.symmetric for target in context.targets):
        told_of.append(
            "TensorRT has symmetric activations and quantizes fewer tensors than were trained: ranges are widened to "
            "fit, so that its answers may differ from those of the trained graph."
        )
    if parity is not None and parity.top1_agreement is not None and parity.top1_agreement < AGREES:
        told_of.append(
            f"ONNX Runtime gives the trained graph's answer on {parity.top1_agreement:.1%} of the rows only: this "
            "machine's kernels may saturate. Deliver for x86-legacy where CPUs have no VNNI."
        )
    return tuple(told_of)


def _span(quantizer: Quantizer) -> str:
    scales = quantizer.grid().scales
    return f"{scales[0]:.3g}" if len(scales) == 1 else f"{min(scales):.3g} ... {max(scales):.3g}"


def _moved(quantizer: Quantizer) -> float:
    """Geometric mean over the channels."""
    return float(np.exp(quantizer.log_ratio.detach().numpy().mean()))
