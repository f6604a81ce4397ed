"""Networks and images to measure with: standard architectures, random but well-behaved weights, picture-like noise."""

from pathlib import Path

import numpy as np
import torch

from tests.support.engine import zoo

SIDE = 224
INPUT, OUTPUT = "image", "logits"


def export_network(name: str, path: Path, seed: int = 0) -> Path:
    """Write a torchvision network as ONNX: input `image` [batch, 3, 224, 224], output `logits` [batch, 1000].

    Weights are torchvision's random start. Every batch norm gets random scales and shifts, and the statistics that
    pictures leave in it: untouched, it would be the identity, and activations would double from block to block.
    """
    torch.set_num_threads(1)
    model = zoo.resnet(name)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.manual_seed(seed)
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0.0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(pictures(8, seed)))
    return zoo.export(model.eval(), path, {INPUT: torch.zeros(2, 3, SIDE, SIDE)}, [OUTPUT])


def pictures(count: int, seed: int) -> np.ndarray:
    """Noise with the 1/f spectrum of photographs, [count, 3, 224, 224] float32, mean 0, deviation 1 for each image.

    D. J. Field, "Relations between the statistics of natural images and the response properties of cortical cells",
    JOSA A, 1987.
    """
    rng = np.random.default_rng(seed)
    vertical, horizontal = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    falling = 1 / np.maximum(np.hypot(vertical, horizontal), 1 / SIDE)
    made = np.empty((count, 3, SIDE, SIDE), np.float32)
    for picture in made:
        shared, own = rng.standard_normal((1, SIDE, SIDE)), rng.standard_normal((3, SIDE, SIDE))
        smooth = np.fft.irfft2(np.fft.rfft2(shared + 0.3 * own) * falling, (SIDE, SIDE))
        picture[...] = (smooth - smooth.mean()) / smooth.std()
    return made


def save_pictures(path: Path, count: int, seed: int = 1) -> Path:
    """Write pictures as an uncompressed `.npz` under the networks' input name."""
    np.savez(path, **{INPUT: pictures(count, seed)})
    return path
