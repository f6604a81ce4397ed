"""quantize.weights: store weights and embeddings in fewer bits; the model goes on computing in float32."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, numpy_helper

from app.spec.quantize import QuantizeWeights
from worker.engine.context import Changed, Context
from worker.engine.model import Model
from worker.engine.plan.grids import (
    BlockGrid,
    CodedWeight,
    GridShape,
    coded,
    fit_half_quadratic,
    fit_least_squares,
)
from worker.engine.plan.layout import Weight, chosen_weights
from worker.engine.plan.packing import packed_bytes
from worker.engine.plan.plan import WeightsPlan
from worker.engine.plan.zeros import are_meant
from worker.engine.quantization.errors import CalibrationFailed
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
from worker.engine.quantization.sensitivity.stored_weights import StoredWeights, WeightsSearch
from worker.engine.quantization.sensitivity.sweep import FLOAT
from worker.engine.quantization.statistics.collector import Collector
from worker.engine.quantization.statistics.moments import SecondMoments, inputs_of
from worker.engine.quantization.weights import report
from worker.engine.quantization.weights.gptq import compensated

DEFAULT_BLOCK = 32
"""Weights that share a scale below 8 bits. A MiniLM's embeddings at 4 bits had a cosine of .974 to the original's with
blocks of 32, .964 with 64 and .953 with 128, at .158, .143 and .135 of the size."""
SPARSE = 0.25
"""Share of zeros from which a weight counts as pruned: its zeros are kept."""
FITS: dict[str, Callable[[np.ndarray, GridShape], BlockGrid]] = {
    "rtn": fit_least_squares,
    "hqq": fit_half_quadratic,
    "gptq": fit_least_squares,
}
UNPACKED = (
    "On CPUs the weights are unpacked to float32 when the model is loaded: the file is smaller, but speed and memory "
    "are those of the float model."
)


def quantize_weights(step: QuantizeWeights, model: Model, context: Context) -> Changed:
    """Attach a `WeightsPlan` to the model.

    Raises `UnknownNode`, `NothingToQuantize`, `CalibrationFailed`, `BudgetTooTight`.
    """
    prepared = model.prepared
    graph = onnx.load(prepared).graph
    weights = chosen_weights(step.named, graph, model.graph)
    moments = calibrated(step, weights, prepared, context)
    coder = Coder(step, graph, weights, moments)
    if step.budget is None:
        return _changed([(weight, step.bits) for weight in weights], coder, model, context)
    subject = StoredWeights(prepared, weights, coder)
    chosen = choose(WeightsSearch(subject, step.widths, "calibration", model.signature, context), step.budget)
    bits = {layer.name: width for layer, width in chosen.choice.items()}
    kept = [(weight, bits[weight.name]) for weight in weights if bits[weight.name] != FLOAT]
    changed, findings = _changed(kept, coder, model, context), findings_of(chosen.sweep)
    return replace(
        changed,
        summary=f"{changed.summary} {summary_of(chosen)}",
        facts={**changed.facts, **facts_of(chosen)},
        charts=(*changed.charts, layer_chart(findings)),
        tables=(*tables_of(chosen, findings), *changed.tables),
        files={FILE: write(findings, chosen.float_right_answers, context.scratch / FILE)},
    )


class Coder:
    """Codes weights in any number of bits, each at most once: compensation takes a minute for a large one."""

    def __init__(
        self, step: QuantizeWeights, graph: GraphProto, weights: Sequence[Weight], moments: Mapping[str, np.ndarray]
    ) -> None:
        """`graph` has the weights as float32, `moments` are those of their inputs, by weight."""
        self.step, self.moments = step, moments
        self.weights = {weight.name: weight for weight in weights}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._made: dict[tuple[str, int], CodedWeight] = {}

    def tensor(self, name: str) -> np.ndarray:
        """The weight itself, float32."""
        return numpy_helper.to_array(self.tensors[name])

    def __call__(self, name: str, bits: int) -> CodedWeight:
        """The codes of a weight."""
        if (name, bits) not in self._made:
            weight = self.weights[name]
            self._made[name, bits] = code(self.tensor(name), weight, self.step.at(bits), self.moments.get(name))
        return self._made[name, bits]


def _changed(weights: Sequence[tuple[Weight, int]], coder: Coder, model: Model, context: Context) -> Changed:
    """The model with these weights in so many bits."""
    step, plan, stored = coder.step, {}, []
    for number, (weight, bits) in enumerate(weights):
        context.progress.advance(number / len(weights), f"weight {number + 1} of {len(weights)}")
        plan[weight.name] = coder(weight.name, bits)
        stored.append(described(weight, coder.tensor(weight.name), plan[weight.name]))
    facts = report.facts(stored, sum(4 * prod(tensor.dims) for tensor in coder.tensors.values()))
    widths = " or ".join(map(str, sorted({bits for _, bits in weights})))
    return Changed(
        replace(model, plan=WeightsPlan(model.prepared, plan)),
        f"{len(weights)} weights are stored in {widths} bits ({step.method}), with their scales in "
        f"{facts['bits_per_weight']:.3g} bits each.",
        {
            "method": step.method,
            "bits": step.bits,
            "compensated_weights": len(coder.moments.keys() & plan.keys()),
            **facts,
        },
        charts=(report.chart(stored),),
        tables=(report.table(stored, "Weights by size and error"),),
        notes=(UNPACKED, *_uncompensated(step, [weight for weight, _ in weights], coder.moments)),
    )


def calibrated(
    step: QuantizeWeights, weights: tuple[Weight, ...], prepared: Path, context: Context
) -> dict[str, np.ndarray]:
    """Second moments of the inputs, by weight, of those that gptq can compensate. Raises `CalibrationFailed`."""
    if step.method != "gptq":
        return {}
    rows = context.data["calibration"].sample(step.samples, context.seed)
    if not len(rows):
        raise CalibrationFailed("There are no calibration rows.")
    inputs_by_weight = {weight.name: inputs for weight in weights if (inputs := inputs_of(weight)) is not None}
    collector = Collector(prepared)
    moments = {
        inputs: collector.observe(inputs.tensor, SecondMoments(inputs))
        for inputs in dict.fromkeys(inputs_by_weight.values())
    }
    collector.run(rows, context)
    return {name: moments[inputs].sum for name, inputs in inputs_by_weight.items()}


def _uncompensated(step: QuantizeWeights, weights: Sequence[Weight], moments: Container[str]) -> tuple[str, ...]:
    rest = Counter(weight.operator for weight in weights if weight.name not in moments)
    if step.method != "gptq" or not rest:
        return ()
    listed = ", ".join(f"{count} of {operator}" for operator, count in sorted(rest.items()))
    return (f"Rounded to nearest, since gptq does not apply to them: weights {listed}.",)


def code(tensor: np.ndarray, weight: Weight, step: QuantizeWeights, moments: np.ndarray | None) -> CodedWeight:
    """The codes of a float32 weight. A pruned one has a symmetric grid, unless another was asked for.

    Zeros that are meant stay zero on any grid.
    """
    pruned = step.symmetric is None and int(np.count_nonzero(tensor)) < (1 - SPARSE) * tensor.size
    block = step.block or (None if step.bits == 8 else DEFAULT_BLOCK)
    zeros = are_meant(tensor)
    shape = GridShape(step.bits, block, symmetric=pruned or not step.may_shift_zero, keeps_zero=zeros)
    fit = fit_least_squares if shape.symmetric else FITS[step.method]
    matrix = weight.layout.matrix(tensor)
    grid = fit(matrix, shape)
    if moments is None:
        return coded(matrix, weight.layout, grid)
    return compensated(matrix, weight.layout, grid, moments, keep_zeros=zeros)


def described(weight: Weight, before: np.ndarray, after: CodedWeight) -> report.StoredWeight:
    """What coding did to a weight."""
    zeros = 0 if after.grid.zeros is None else after.grid.zeros.nbytes
    size = packed_bytes(after.codes.size, after.bits) + after.grid.scales.nbytes + zeros
    form = f"{after.bits} bits, blocks of {after.codes.shape[2]}"
    return report.StoredWeight.of(weight, before, after.values(), form, size)
