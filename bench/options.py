"""What the options of static quantization gain.

Signal to noise of the outputs on held-out rows for profile `x86` with each option of `quantize.static`, as a difference
to the same step without any; mean and range over three networks, or for MiniLM three draws of calibration rows. Digits
are the demo's CNN and a small vision transformer trained for it; mobilenet_v2 has random weights and random, but
consistent batch norms; all-MiniLM-L6-v2 encodes English sentences. "One scale" means `per_channel: false`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.spec.quantize import QuantizeStatic
from bench.harness import minilm
from bench.harness.figures import Figure
from bench.harness.scene import Scene
from bench.harness.subjects import INPUT, export_network, pictures
from examples.digits import TRAIN_ROWS, all_digits, digits_cnn, export_onnx, trained
from tests.support.engine.orders import changed, lowered, outputs_of, rows_of, sqnr_db

Arrays = dict[str, np.ndarray]
SEEDS = (0, 1, 2)
OPTIONS = ("equalize", "smooth", "bias_correction")


@dataclass(frozen=True)
class FloatModel:
    """A float model, rows to calibrate on, and rows that are held out."""

    model: Path
    calibration: Arrays
    held: Arrays


class VisionTransformer(nn.Module):
    """Images [rows, 1, 8, 8] to logits [rows, 10]: 16 patches, three layers that normalize first, 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 64, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(64), enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.patches(image).flatten(2).transpose(1, 2) + self.places).mean(1))


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    rows: list[Figure] = []
    for name in scene.pick(tuple(MAKE), ("digits CNN", "digits ViT")):
        subjects = []
        for seed in scene.pick(SEEDS, SEEDS[:1]):
            scene.say(f"{name}, {seed}")
            folder = scene.folder / f"{name}-{seed}"
            folder.mkdir()
            subjects.append((MAKE[name](folder, seed), folder))
        for scales, per_channel in (("", True), (", one scale", False)):
            rows += gains(f"{name}{scales}", subjects, per_channel=per_channel)
    return rows


def gains(name: str, subjects: list[tuple[FloatModel, Path]], *, per_channel: bool) -> list[Figure]:
    """Signal to noise without options, and the gain of each, and of all."""
    baselines = [
        noise(*subject, QuantizeStatic(per_channel=per_channel, **dict.fromkeys(OPTIONS, False)))
        for subject in subjects
    ]
    rows = [Figure.mean_of(f"{name}: signal to noise without options", baselines, "dB")]
    for option, chosen in (*((option, (option,)) for option in OPTIONS), ("all three", OPTIONS)):
        step = QuantizeStatic(per_channel=per_channel, **{name: name in chosen for name in OPTIONS})
        gained = [noise(*subject, step) - before for subject, before in zip(subjects, baselines, strict=True)]
        rows.append(Figure.mean_of(f"{name}: gain of {option}", gained, "dB"))
    return rows


def noise(subject: FloatModel, folder: Path, step: QuantizeStatic) -> float:
    """Signal to noise of the first output on the held-out rows, in dB."""
    rows = rows_of(folder, **subject.calibration)
    quantized = lowered(changed(step, subject.model, folder, rows).model, "x86", folder)
    return sqnr_db(outputs_of(subject.model, subject.held)[0], outputs_of(quantized, subject.held)[0])


def digits_subject(network: nn.Module, folder: Path, seed: int) -> FloatModel:
    """A network trained on digits; 256 of those it was not trained on are for calibration."""
    model = folder / "model.onnx"
    export_onnx(trained(network), model)
    images = all_digits()[0][TRAIN_ROWS:].astype(np.float32) / 255
    order = np.random.default_rng(seed).permutation(len(images))
    return FloatModel(model, {"image": images[order[:256]]}, {"image": images[order[256:]]})


def cnn(folder: Path, seed: int) -> FloatModel:
    """The demo's network."""
    return digits_subject(digits_cnn(seed), folder, seed)


def transformer(folder: Path, seed: int) -> FloatModel:
    """A transformer whose normalizations are read by matrix products alone."""
    torch.manual_seed(seed)
    return digits_subject(VisionTransformer(), folder, seed)


def mobilenet(folder: Path, seed: int) -> FloatModel:
    """A network of depthwise convolutions."""
    model = export_network("mobilenet_v2", folder / "model.onnx", seed)
    return FloatModel(model, {INPUT: pictures(32, seed + 10)}, {INPUT: pictures(16, seed + 20)})


def sentences(folder: Path, seed: int) -> FloatModel:
    """A BERT, whose residual stream reads the normalizations, too."""
    rows = minilm.sentences(96, seed)
    model = minilm.export_onnx(folder / "model.onnx")
    return FloatModel(
        model, {name: ids[:64] for name, ids in rows.items()}, {name: ids[64:] for name, ids in rows.items()}
    )


MAKE = {"digits CNN": cnn, "digits ViT": transformer, "mobilenet_v2": mobilenet, "MiniLM": sentences}
