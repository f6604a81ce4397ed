"""A MiniLM and the digits CNN with smaller weights.

all-MiniLM-L6-v2, embeddings included, is stored in fewer bits by `quantize.weights` with each method and in shared
values by `share_weights`. Sizes are those of the delivered ONNX files for profile `x86` against the float32 file; the
cosine is the mean over sentence embeddings of sentences that were not calibrated on. The digits CNN is the demo's, and
its top-1 is taken on rows that it was not trained on.
"""

from pathlib import Path

import numpy as np
import torch

from app.spec.base import Step
from app.spec.quantize import QuantizeDynamic, QuantizeWeights
from app.spec.share import ShareWeights
from bench.harness import minilm
from bench.harness.figures import Bound, Figure, at_least, at_most
from bench.harness.scene import Scene
from examples.digits import all_digits, export_onnx, train_digits_cnn
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of
from worker.engine.data.rows import Rows

CALIBRATION, TEST = 128, 256
MINILM: dict[str, tuple[Step, Bound | None, Bound | None]] = {
    "dynamic int8": (QuantizeDynamic(), None, at_least(0.99)),
    "int8": (QuantizeWeights(weights="int8"), at_most(0.26), at_least(0.999)),
    "int4 rtn": (QuantizeWeights(weights="int4"), at_most(0.20), None),
    "int4 hqq": (QuantizeWeights(weights="int4", method="hqq"), at_most(0.20), None),
    "int4 gptq": (QuantizeWeights(weights="int4", method="gptq"), at_most(0.20), at_least(0.98)),
    "int4 gptq symmetric": (QuantizeWeights(weights="int4", method="gptq", symmetric=True), at_most(0.20), None),
    "int3 rtn": (QuantizeWeights(weights="int3"), None, None),
    "int3 hqq": (QuantizeWeights(weights="int3", method="hqq"), None, None),
    "int3 gptq": (QuantizeWeights(weights="int3", method="gptq"), None, None),
    "int2 rtn": (QuantizeWeights(weights="int2"), None, None),
    "int2 hqq": (QuantizeWeights(weights="int2", method="hqq"), None, None),
    "int2 gptq": (QuantizeWeights(weights="int2", method="gptq"), None, None),
    "256 shared": (ShareWeights(clusters=256), at_most(0.27), at_least(0.999)),
    "64 shared": (ShareWeights(clusters=64), None, None),
    "16 shared": (ShareWeights(clusters=16), at_most(0.16), None),
    "16 shared by 8 channels": (ShareWeights(clusters=16, group=8), at_most(0.16), None),
}
"""With the bounds of size and cosine."""
DIGITS: dict[str, tuple[Step, Bound | None]] = {
    "int8": (QuantizeWeights(weights="int8"), at_most(0.3)),
    "int4 rtn": (QuantizeWeights(weights="int4"), None),
    "int4 gptq": (QuantizeWeights(weights="int4", method="gptq"), None),
    "int2 gptq": (QuantizeWeights(weights="int2", method="gptq"), None),
    "16 shared": (ShareWeights(clusters=16), at_most(0.3)),
    "4 shared": (ShareWeights(clusters=4), None),
}
"""With the bound of the points of top-1 lost."""


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    return [*_minilm(scene), *_digits(scene)]


def _minilm(scene: Scene) -> list[Figure]:
    scene.say("exporting the MiniLM")
    graph = minilm.export_onnx(scene.folder / "minilm.onnx")
    encoded = minilm.sentences(CALIBRATION + scene.pick(TEST, 32))
    calibration = rows_of(scene.folder, **{name: array[:CALIBRATION] for name, array in encoded.items()})
    test = {name: array[CALIBRATION:] for name, array in encoded.items()}
    before = outputs_of(graph, test)[0]
    figures = [Figure("MiniLM, float32", graph.stat().st_size / 1e6, "MB")]
    for name, (step, size, likeness) in MINILM.items():
        scene.say(f"MiniLM, {name}")
        file = _delivered(step, graph, scene.folder / "minilm" / name, calibration)
        cosine = (before * outputs_of(file, test)[0]).sum(axis=1)
        figures.append(Figure(f"MiniLM, {name}: size", file.stat().st_size / graph.stat().st_size, "", size))
        figures.append(Figure(f"MiniLM, {name}: cosine", float(cosine.mean()), "", likeness, *_range(cosine)))
    return figures


def _digits(scene: Scene) -> list[Figure]:
    graph = scene.folder / "digits.onnx"
    export_onnx(train_digits_cnn(0), graph)
    pictures, labels = all_digits()
    images = (pictures / np.float32(255)).astype(np.float32)
    calibration = rows_of(scene.folder, image=images[1000:1200])
    test, answers = {"image": images[1200:]}, labels[1200:]
    before = _top1(graph, test, answers)
    figures = [Figure("digits, float32: top-1", before, "%")]
    for name, (step, bound) in DIGITS.items():
        scene.say(f"digits, {name}")
        file = _delivered(step, graph, scene.folder / "digits" / name, calibration)
        figures.append(Figure(f"digits, {name}: size", file.stat().st_size / graph.stat().st_size))
        figures.append(Figure(f"digits, {name}: top-1 lost", before - _top1(file, test, answers), "points", bound))
    return figures


def _delivered(step: Step, graph: Path, folder: Path, calibration: Rows) -> Path:
    folder.mkdir(parents=True)
    return lowered(changed(step, graph, folder, calibration).model, "x86", folder)


def _top1(graph: Path, inputs: dict[str, np.ndarray], labels: np.ndarray) -> float:
    return 100 * float((outputs_of(graph, inputs)[0].argmax(axis=1) == labels).mean())


def _range(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest of them."""
    return float(values.min()), float(values.max())
