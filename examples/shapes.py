"""A harder job than digits: 24 drawn shapes in 32x32 colour images, and a small ResNet that learns them.

    python examples/shapes.py folder

writes shapes.npz (24,000 images) and, after a few minutes of training on one CPU core, shapes.pt2. No two images are
alike: position, size, rotation, shear and colours vary, parts are covered, the background is patterned, everything is
noisy, and several shapes differ in a corner only. The ResNet finds 89.2 % of the classes after ten epochs, and not
100 %, so that what a compression costs can be seen.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

SIDE = 32
"""Height and width of an image in pixels."""
COUNT = 24_000
TRAIN_ROWS = 20_000
"""The rest is for validation, calibration and test; the network has never seen it."""
SHIFT = 2
CHUNK = 2_000
"""Images drawn at a time: about 100 MB of intermediate arrays."""

Grid = np.ndarray
"""Float32 `[images, 32, 32]`."""


def _box(u: Grid, v: Grid, width: float, height: float, x: float = 0, y: float = 0) -> Grid:
    return np.maximum(abs(u - x) - width, abs(v - y) - height)


def _disc(u: Grid, v: Grid, radius: float, x: float = 0, y: float = 0) -> Grid:
    return np.hypot(u - x, v - y) - np.float32(radius)


def _polygon(u: Grid, v: Grid, corners: int, radius: float = 0.95) -> Grid:
    """A regular polygon that stands on a side."""
    sector = np.float32(2 * np.pi / corners)
    angle = np.arctan2(u, -v)
    off_middle = angle - np.round(angle / sector) * sector
    return np.hypot(u, v) * np.cos(off_middle) - np.float32(radius * np.cos(np.pi / corners))


def _star(u: Grid, v: Grid, points: int, waist: float) -> Grid:
    sector = np.float32(2 * np.pi / points)
    angle = np.arctan2(u, v)
    off_point = abs(angle - np.round(angle / sector) * sector) / (sector / 2)
    return np.hypot(u, v) - (1 + (waist - 1) * off_point)


def _outline(distance: Grid, width: float = 0.2) -> Grid:
    return abs(distance + np.float32(width)) - np.float32(width)


def _triangle(u: Grid, v: Grid) -> Grid:
    return _polygon(u, v - 0.15, 3, 1.1)


SHAPES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "disc": lambda u, v: _disc(u, v, 0.85),
    "ring": lambda u, v: _outline(_disc(u, v, 0.9)),
    "ellipse": lambda u, v: _disc(u, v / 0.62, 0.95) * 0.62,
    "square": lambda u, v: _box(u, v, 0.75, 0.75),
    "frame": lambda u, v: _outline(_box(u, v, 0.8, 0.8)),
    "bar": lambda u, v: _box(u, v, 0.95, 0.55),
    "rhombus": lambda u, v: (abs(u) / 0.7 + abs(v) - 1) * 0.57,
    "triangle": _triangle,
    "warning": lambda u, v: _outline(_triangle(u, v), 0.16),
    "pentagon": lambda u, v: _polygon(u, v, 5),
    "hexagon": lambda u, v: _polygon(u, v, 6),
    "star4": lambda u, v: _star(u, v, 4, 0.4),
    "star5": lambda u, v: _star(u, v, 5, 0.45),
    "star6": lambda u, v: _star(u, v, 6, 0.5),
    "plus": lambda u, v: np.minimum(_box(u, v, 0.9, 0.28), _box(u, v, 0.28, 0.9)),
    "saltire": lambda u, v: SHAPES["plus"]((u + v) * np.float32(0.7071), (u - v) * np.float32(0.7071)),
    "crescent": lambda u, v: np.maximum(_disc(u, v, 0.9), -_disc(u, v, 0.75, 0.45)),
    "half": lambda u, v: np.maximum(_disc(u, v + 0.35, 0.95), -v - 0.35),
    "heart": lambda u, v: np.minimum(
        np.minimum(_disc(u, v, 0.48, -0.42, 0.3), _disc(u, v, 0.48, 0.42, 0.3)),
        np.maximum((abs(u) - 0.85 - v * 0.8) * 0.7, v - 0.3),
    ),
    "arrow": lambda u, v: np.minimum(_box(u, v, 0.26, 0.6, 0, -0.35), np.maximum((abs(u) * 0.9 + v - 0.95) * 0.7, -v)),
    "ell": lambda u, v: np.minimum(_box(u, v, 0.26, 0.85, -0.5), _box(u, v, 0.75, 0.26, 0, -0.6)),
    "tee": lambda u, v: np.minimum(_box(u, v, 0.26, 0.85), _box(u, v, 0.8, 0.26, 0, 0.6)),
    "hourglass": lambda u, v: np.maximum((abs(u) - abs(v)) * 0.7 - 0.08, abs(v) - 0.85),
    "pair": lambda u, v: np.minimum(_disc(u, v, 0.44, -0.5), _disc(u, v, 0.44, 0.5)),
}
"""Signed distance by class, in units of the shape's radius: negative inside; `u` to the right, `v` upwards."""


def shapes(count: int = COUNT, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 `[count, 3, 32, 32]`, and their classes, int64 `[count]`, equally many of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % len(SHAPES))
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for start in range(0, count, CHUNK):
        images[start : start + CHUNK] = _drawn(labels[start : start + CHUNK], generator)
    return images, labels


def _drawn(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count = len(labels)
    inside = _coverage(labels, generator)[:, None]
    ground = _pattern(count, 0.1, generator) + _pattern(count, 0.05, generator, cells=9)
    ground += generator.uniform(0.25, 0.75, (count, 3, 1, 1)).astype(np.float32)
    # The figure differs from its ground by at least 0.4 along a random direction of colour.
    direction = generator.normal(size=(count, 3, 1, 1)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    contrast = generator.uniform(0.4, 1, (count, 1, 1, 1)).astype(np.float32)
    figure = ground + direction * contrast + _pattern(count, 0.06, generator, cells=7)
    images = ground + (figure - ground) * inside
    for _ in range(2):
        _cover(images, generator)
    noise = generator.uniform(0.02, 0.08, (count, 1, 1, 1)).astype(np.float32)
    images += noise * generator.standard_normal(images.shape, np.float32)
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8)


def _coverage(labels: np.ndarray, generator: np.random.Generator) -> Grid:
    """How much of each pixel the shape covers, 0..1."""
    count = len(labels)

    def drawn(low: float, high: float) -> np.ndarray:
        return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)

    axis = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    radius = drawn(7, 13)
    room = (SIDE / 2 - radius) * 0.8
    x, y = axis[None, None, :] - room * drawn(-1, 1), -axis[None, :, None] - room * drawn(-1, 1)
    x, y = x + 0.5 * np.sin(y * drawn(0.2, 0.6) + drawn(0, 6.3)), y + 0.5 * np.sin(x * drawn(0.2, 0.6) + drawn(0, 6.3))
    turn = generator.normal(0, 0.2, (count, 1, 1)).astype(np.float32)
    cos, sin = np.cos(turn), np.sin(turn)
    stretch = np.exp(drawn(-0.18, 0.18))
    u = (cos * x + sin * y) / radius * stretch
    v = (cos * y - sin * x) / radius / stretch + drawn(-0.2, 0.2) * u
    distance = np.empty((count, SIDE, SIDE), np.float32)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        distance[rows] = shape(u[rows], v[rows])
    return np.clip(0.5 - distance * radius, 0, 1)


def _pattern(count: int, strength: float, generator: np.random.Generator, cells: int = 4) -> np.ndarray:
    """Smooth coloured clouds, `[count, 3, 32, 32]`, around 0: a coarse grid of noise, interpolated linearly."""
    coarse = generator.normal(0, strength, (count, 3, cells, cells)).astype(np.float32)
    place = np.linspace(0, cells - 1, SIDE, dtype=np.float32)
    weights = np.clip(1 - abs(place[:, None] - np.arange(cells, dtype=np.float32)), 0, 1)
    return weights @ coarse @ weights.T


def _cover(images: np.ndarray, generator: np.random.Generator) -> None:
    """Paint a rectangle of one colour somewhere over each image."""
    count = len(images)
    axis = np.arange(SIDE)
    sides = generator.integers(3, 11, (2, count, 1))
    first = generator.integers(-4, SIDE, (2, count, 1))
    down, across = (axis >= first) & (axis < first + sides)
    hidden = down[:, None, :, None] & across[:, None, None, :]
    colour = generator.uniform(0, 1, (count, 3, 1, 1)).astype(np.float32)
    np.copyto(images, colour, where=hidden)


class SmallResNet(nn.Module):
    """Three stages of residual blocks (He et al. 2015) on 16x16, 8x8 and 4x4: `image` [rows, 3, 32, 32] to logits.

    With the defaults it has 0.48 million parameters and 20 million multiplications per image.
    """

    def __init__(self, classes: int = len(SHAPES), width: int = 40, blocks: int = 1) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range(blocks):
                wider = width << stage
                stages.append(_Block(channels, wider, stride=2 if stage and not block else 1))
                channels = wider
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(wider)
        self.second = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(wider)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == wider
            else nn.Sequential(nn.Conv2d(channels, wider, 1, stride, bias=False), nn.BatchNorm2d(wider))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first_norm(self.first(features)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(features))


def train(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, *, epochs: int = 10, batch: int = 128, seed: int = 0
) -> nn.Module:
    """Train on uint8 images, shifted by up to two pixels, and their classes; the model comes back in eval mode."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        right = 0
        for rows in torch.randperm(len(images)).split(batch):
            pixels, wanted = torch.from_numpy(_shifted(images[rows], random)), torch.from_numpy(labels[rows])
            pixels = pixels.float() / 255
            logits = model(pixels)
            loss = nn.functional.cross_entropy(logits, wanted, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == wanted).sum())
        print(f"epoch {epoch + 1} of {epochs}: {right / len(images):.1%} of the training images right", flush=True)
    return model.eval()


def _shifted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    down, across = random.integers(0, 2 * SHIFT + 1, (2, len(images), 1)) + np.arange(SIDE)
    every = np.arange(len(images))[:, None, None]
    return padded.transpose(0, 2, 3, 1)[every, down[:, :, None], across[:, None, :]].transpose(0, 3, 1, 2)


def top1(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose class the model finds."""
    with torch.inference_mode():
        guesses = [model(rows.float() / 255).argmax(1) for rows in torch.from_numpy(images).split(500)]
    return float((torch.cat(guesses).numpy() == labels).mean())


def export_pt2(model: nn.Module, path: Path) -> None:
    """Write the model as a torch.export program with a batch dimension that may vary."""
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    program = torch.export.export(model, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=(batch,))
    torch.export.save(program, path)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = shapes()
    np.savez(folder / "shapes.npz", image=images, y=labels)
    torch.manual_seed(0)
    model = train(SmallResNet(), images[:TRAIN_ROWS], labels[:TRAIN_ROWS])
    print(f"{top1(model, images[TRAIN_ROWS:], labels[TRAIN_ROWS:]):.1%} of the other images right")
    export_pt2(model, folder / "shapes.pt2")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
