"""analyze.sensitivity: change one layer at a time, and nothing for good."""

from collections.abc import Iterator

import torch
from torch import fx

from app.spec.metrics import TOP1
from app.spec.prune import PruneChannels
from app.spec.quantize import QuantizeStatic
from app.spec.sensitivity import AnalyzeSensitivity
from worker.engine.context import Changed, Context
from worker.engine.measure.running import Arrays, Run
from worker.engine.model import Model, new_folder
from worker.engine.passes.quantize_static import measure_plan
from worker.engine.pruning.channels.analysis import analyse
from worker.engine.pruning.channels.choosing import candidates, choose
from worker.engine.pruning.channels.importance import by_norm
from worker.engine.pruning.channels.removal import masked
from worker.engine.pruning.errors import NoWeightsToPrune
from worker.engine.pruning.weighted_layers import weighted_layers
from worker.engine.quantization.sensitivity.reference import ReferenceOutputs
from worker.engine.quantization.sensitivity.report import FILE, LayerFinding, layer_chart, layer_table, write
from worker.engine.quantization.sensitivity.roundable_graph import RoundableGraph
from worker.engine.quantization.sensitivity.sweep import graph_runner
from worker.engine.torch_program.program import Program


def analyze_sensitivity(step: AnalyzeSensitivity, model: Model, context: Context) -> Changed:
    """The model as it is, and what each layer bears.

    Raises `NotImported`, `NothingToQuantize`, `NothingToPrune`, `CalibrationFailed`.
    """
    measure = {"quantize": _quantized, "prune.channels": _without_channels, "prune.weights": _without_weights}
    reference_outputs, measured = measure[step.what](step, model, context)
    findings = []
    for share, finding in measured:
        context.progress.advance(share, f"{finding.layer}")
        findings.append(finding)
    worst = min(findings, key=lambda finding: min(reading.sqnr_db for reading in finding.readings.values()))
    done, reading = min(worst.readings.items(), key=lambda item: item[1].sqnr_db)
    return Changed(
        model,
        f"Changed {len(findings)} layers one at a time; the most sensitive is {worst.layer}: {done} alone leave "
        f"{reading.sqnr_db:.1f} dB.",
        {
            "layers": len(findings),
            "most_sensitive": worst.layer,
            "lowest_sqnr_db": reading.sqnr_db,
            **({} if reference_outputs.right_answers is None else {TOP1.name: reference_outputs.right_answers}),
        },
        charts=(layer_chart(findings),),
        tables=(layer_table(findings, reference_outputs.right_answers),),
        files={FILE: write(findings, reference_outputs.right_answers, context.scratch / FILE)},
    )


Measured = tuple[ReferenceOutputs, Iterator[tuple[float, LayerFinding]]]
"""The measure, and each layer with the share of the work that is done with it."""


def _quantized(step: AnalyzeSensitivity, model: Model, context: Context) -> Measured:
    """Each layer with its weight and the activations around it rounded."""
    plan, _ = measure_plan(QuantizeStatic(observer=step.observer, samples=step.samples), model, context)
    subject = RoundableGraph.of(plan)
    rows = context.data["calibration"].sample(step.samples, context.seed)
    reference_outputs = ReferenceOutputs(
        graph_runner(plan.graph, context), rows, model.signature, new_folder(context.scratch)
    )

    def each() -> Iterator[tuple[float, LayerFinding]]:
        for number, layer in enumerate(subject.layers, 1):
            file, readings = context.scratch / "rounded.onnx", {}
            for bits in dict.fromkeys(step.bits):
                subject.rounding({layer: bits}, subject.values_at(layer, bits), file)
                readings[f"{bits} bits"] = reference_outputs.read(graph_runner(file, context))
            yield number / len(subject.layers), LayerFinding(layer.name, layer.operator, layer.weights, readings)

    return reference_outputs, each()


def _without_channels(step: AnalyzeSensitivity, model: Model, context: Context) -> Measured:
    """Each group of channels without those of the smallest norm: zero in their place is what removal comes to."""
    channels = analyse(model.program)
    pruning = PruneChannels(ratio=step.ratio, round_to=1)
    groups = candidates(channels, by_norm(channels, 2), pruning)
    reference_outputs = _yardstick(step, model, context)

    def each() -> Iterator[tuple[float, LayerFinding]]:
        for number, candidate in enumerate(groups, 1):
            if len(candidate.group.classes) < 2:
                continue  # a single head or channel cannot go by halves
            module = masked(channels, choose(channels, [candidate], pruning))
            reading = reference_outputs.read(module_runner(model.program, module))
            done = f"{step.ratio:.0%} of the channels"
            yield (
                number / len(groups),
                LayerFinding(candidate.group.name, "channels", candidate.group.parameters, {done: reading}),
            )

    return reference_outputs, each()


def _without_weights(step: AnalyzeSensitivity, model: Model, context: Context) -> Measured:
    """Each layer without its smallest weights."""
    module = model.program.graph_module()
    layers = weighted_layers(module)
    if not layers:
        raise NoWeightsToPrune("The model has no linear layer, matrix product or convolution with a weight of its own.")
    reference_outputs = _yardstick(step, model, context)

    def each() -> Iterator[tuple[float, LayerFinding]]:
        for number, layer in enumerate(layers, 1):
            weight = module.get_parameter(layer.parameter)
            kept = weight.detach().clone()
            size = kept.abs().flatten()
            count = max(1, int(step.ratio * size.numel()))
            with torch.no_grad():
                weight[kept.abs() <= size.kthvalue(count).values] = 0
                reading = reference_outputs.read(module_runner(model.program, module))
                weight.copy_(kept)
            operator = "convolution" if layer.convolution else "linear"
            done = f"{step.ratio:.0%} of the weights"
            yield number / len(layers), LayerFinding(layer.name, operator, kept.numel(), {done: reading})

    return reference_outputs, each()


def _yardstick(step: AnalyzeSensitivity, model: Model, context: Context) -> ReferenceOutputs:
    rows = context.data["calibration"].sample(step.samples, context.seed)
    return ReferenceOutputs(model.program, rows, model.signature, new_folder(context.scratch))


def module_runner(program: Program, module: fx.GraphModule) -> Run:
    """A graph module of a program as a function from inputs to outputs by name."""

    def run(feeds: Arrays) -> Arrays:
        tensors = {tensor.name: torch.from_numpy(feeds[tensor.name].copy()) for tensor in program.signature.inputs}
        with torch.inference_mode():
            return {name: output.numpy() for name, output in program.outputs_of(module, tensors).items()}

    return run
