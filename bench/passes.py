"""What is run once: calibration rows and exports to ONNX.

Rows: the ranges of all activations and the mean inputs of all layers, from which biases are corrected. Apart is how
four loops of their own would gather them: extremes, then histograms over these, then means. Together is the step's
way, one collection for all that was declared. The collector is the same in both, and so are the ranges and means that
come out. Every collection first runs one row more, to see how large activations are.

Exports: a program with a static plan is made ready for four targets that take programs. Apart each exports it to find
the plan's layers in it, as opening the model does, too; together they share the model's one export. The converters
themselves are not run.

Both ways take turns on one thread, and are compared in seconds of the processor.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import torch

from app.spec.quantize import QuantizeStatic
from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene
from bench.harness.subjects import INPUT, SIDE, export_network, pictures
from tests.support.engine import zoo
from tests.support.engine.orders import context, model_of, rows_of
from tests.support.engine.pruned_networks import as_program
from worker.engine.data.rows import Batch, Rows
from worker.engine.lowering.program.plan import quantized_program
from worker.engine.model import Model, new_folder
from worker.engine.onnx_graph.export import OnnxForm
from worker.engine.passes.table import apply_step
from worker.engine.plan.activations import activations
from worker.engine.plan.selection import quantizable
from worker.engine.quantization.calibration import calibrate

NETWORKS = ("resnet18", "resnet50")
OBSERVERS = ("minmax", "mse")
TARGETS = 4
ROUNDS = 3


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    rounds, count = scene.pick((ROUNDS, 32), (1, 2))
    figures = []
    for network in scene.pick(NETWORKS, NETWORKS[:1]):
        graph = export_network(network, scene.folder / f"{network}.onnx")
        for observer in OBSERVERS:
            scene.say(f"{network}: calibrates with {observer}")
            figures += rows_run(network, graph, pictures(count, 1), scene.folder, observer, rounds)
    scene.say("a program for four targets")
    program = zoo.resnet("resnet18").eval()
    return [*figures, *exports_made("resnet18", program, pictures(4, 1), scene.folder, rounds)]


@dataclass(frozen=True)
class CountedRows(Rows):
    """Rows that count how often one of them was run."""

    read: list[int] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield what `Rows` does."""
        for inputs, labels in super().batches(size):
            self.read.append(max(len(array) for array in inputs.values()))
            yield inputs, labels


def rows_run(network: str, graph: Path, images: np.ndarray, folder: Path, observer: str, rounds: int) -> list[Figure]:
    """Rows and processor time of a calibration, apart and together."""
    step = QuantizeStatic.model_validate({"observer": observer, "bias_correction": True})
    ranges = step.model_copy(update={"bias_correction": False})
    extremes, means = ranges.model_copy(update={"observer": "minmax"}), QuantizeStatic()
    prepared = model_of(graph, folder).prepared
    nodes = quantizable(onnx.load(prepared).graph, frozenset())
    tensors = activations(onnx.load(prepared).graph, frozenset(nodes))
    opened = rows_of(folder, **{INPUT: images})
    ways = {"apart": CountedRows(**vars(opened)), "together": CountedRows(**vars(opened))}

    def collected(step: QuantizeStatic, tensors: tuple[str, ...], rows: Rows) -> None:
        calibrate(prepared, tensors, nodes, rows, step, context(folder))

    def apart() -> None:
        if observer == "mse":
            collected(extremes, tensors, ways["apart"])
        collected(ranges, tensors, ways["apart"])
        collected(means, (), ways["apart"])

    seconds = in_turns({"apart": apart, "together": partial(collected, step, tensors, ways["together"])}, rounds)
    run = {way: sum(rows.read) / rounds for way, rows in ways.items()}
    name = f"{network}, {observer}, {len(images)} rows"
    return [
        Figure(f"{name}: rows run apart", run["apart"]),
        Figure(f"{name}: rows run together", run["together"], "", at_most(len(images) + 1)),
        ratio(f"{name}: CPU seconds, together / apart", seconds),
    ]


def exports_made(network: str, module: torch.nn.Module, images: np.ndarray, folder: Path, rounds: int) -> list[Figure]:
    """Exports and processor time of opening a program and making it ready for four targets, apart and together."""
    program = as_program(module, {INPUT: torch.zeros(2, 3, SIDE, SIDE)})
    rows = rows_of(folder, **{INPUT: images})
    exports: dict[str, int] = {}

    def ready(way: str, *, shared: bool) -> None:
        with exports_counted() as made:
            model = Model(program, program.signature, new_folder(folder / "scratch"))
            planned = apply_step(QuantizeStatic(), model, context(folder, rows)).model
            for _ in range(TARGETS):
                quantized_program(planned if shared else replace(planned, onnx_form=OnnxForm()))
        exports[way] = len(made)

    ways = {"apart": partial(ready, "apart", shared=False), "together": partial(ready, "together", shared=True)}
    seconds = in_turns(ways, rounds)
    name = f"{network}, opened and made ready for {TARGETS} targets"
    return [
        Figure(f"{name}: exports apart", exports["apart"]),
        Figure(f"{name}: exports together", exports["together"], "", at_most(1)),
        ratio(f"{name}: CPU seconds, together / apart", seconds),
    ]


@contextmanager
def exports_counted() -> Iterator[list[object]]:
    """What `torch.onnx.export` was called with while the block lasted."""
    made: list[object] = []
    export = torch.onnx.export

    def counted(*args: object, **options: object) -> object:
        made.append(args[0])
        return export(*args, **options)  # type: ignore[arg-type]

    torch.onnx.export = counted  # type: ignore[assignment]
    try:
        yield made
    finally:
        torch.onnx.export = export


def in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each way in each round."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            started = time.process_time()
            work()
            seconds[way].append(time.process_time() - started)
    return seconds


def ratio(name: str, seconds: dict[str, list[float]]) -> Figure:
    """Of the medians, with the smallest and the largest of the rounds."""
    each = [together / apart for apart, together in zip(seconds["apart"], seconds["together"], strict=True)]
    value = median(seconds["together"]) / median(seconds["apart"])
    return Figure(name, value, "", at_most(1), min(each), max(each))
