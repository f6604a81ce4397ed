"""What the report says of a quantization-aware training, besides its losses."""

import numpy as np

from app.spec.quantize_aware import QuantizeAware
from app.spec.report import MOST_POINTS, Chart, OutputParity, Table
from worker.engine.context import Context, Fact
from worker.engine.quantization.qat.fake_quant import Quantizer
from worker.engine.quantization.qat.fake_quantized import FakeQuantized
from worker.engine.quantization.qat.qat_model import QatModel
from worker.engine.report_bars import layer_bars

AGREES = 0.99
"""Share of equal answers below which the difference cannot be ties in rounding alone."""
NAMED = 8
"""Values of the model that a note names before it counts the rest."""


def parity_facts(parity: OutputParity | None) -> dict[str, Fact]:
    """How the integer kernels compare with the graph that was trained."""
    if parity is None:
        return {}
    figures: dict[str, Fact | None] = {
        "kernel_agreement": parity.top1_agreement,
        "kernel_sqnr_db": parity.sqnr_db,
        "kernel_rows": parity.rows,
    }
    return {name: value for name, value in figures.items() if value is not None}


def layers_of(subject: QatModel, fake_quantized: FakeQuantized) -> list[tuple[str, str, Quantizer, Quantizer]]:
    """Parameter and operator of each layer, and the quantizers of its weight and of what it reads."""
    placed = subject.placed
    rows = []
    for layer in placed.layers:
        name = fake_quantized.products[layer.output]
        inputs = fake_quantized.activations[subject.places[placed.scale_of[layer.inputs]].name]
        rows.append((name, layer.operator, fake_quantized.weights[name], inputs))
    return rows[:MOST_POINTS]


def table_of(subject: QatModel, fake_quantized: FakeQuantized) -> Table:
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
            for name, operator, weights, inputs in layers_of(subject, fake_quantized)
        ),
    )


def chart_of(subject: QatModel, fake_quantized: FakeQuantized) -> Chart:
    """How far training moved the scales."""
    layers = layers_of(subject, fake_quantized)
    return layer_bars(
        "Scales after training, relative to those of least squared error",
        "ratio",
        [name for name, *_ in layers],
        {
            "weights": [_moved(weights) for _, _, weights, _ in layers],
            "inputs": [_moved(inputs) for *_, inputs in layers],
        },
    )


def notes(step: QuantizeAware, subject: QatModel, parity: OutputParity | None, context: Context) -> tuple[str, ...]:
    """What the reader must know."""
    sentences = []
    if subject.floating:
        named = ", ".join(subject.floating[:NAMED])
        more = f" and {len(subject.floating) - NAMED} more" if len(subject.floating) > NAMED else ""
        sentences.append(f"Left in floating point, because the exported program does not show them: {named}{more}.")
    if step.weights != "int8":
        sentences.append(
            "Kernels multiply 8-bit integers: narrower weights make the file smaller, not the model faster."
        )
    if any(target.symmetric for target in context.targets):
        sentences.append(
            "TensorRT has symmetric activations and quantizes fewer tensors than were trained: ranges are widened to "
            "fit, so that its answers may differ from those of the trained graph."
        )
    if parity is not None and parity.top1_agreement is not None and parity.top1_agreement < AGREES:
        sentences.append(
            f"ONNX Runtime gives the trained graph's answer on {parity.top1_agreement:.1%} of the rows only: this "
            "machine's kernels may saturate. Deliver for x86-legacy where CPUs have no VNNI."
        )
    return tuple(sentences)


def _span(quantizer: Quantizer) -> str:
    scales = quantizer.grid().scales
    return f"{scales[0]:.3g}" if len(scales) == 1 else f"{min(scales):.3g} ... {max(scales):.3g}"


def _moved(quantizer: Quantizer) -> float:
    """Geometric mean over the channels."""
    return float(np.exp(quantizer.log_ratio.detach().numpy().mean()))
