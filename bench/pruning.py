"""Half of the channels of standard networks.

Full-size networks of torchvision with random weights lose half of the channels of every layer, by their L2 norm, in
blocks of 16 and exactly. The smaller network must compute what the whole one does with zeros in the same places, on
random images. The analysis reads the graph alone; its time does not include loading or exporting.
"""

import time
from dataclasses import dataclass

import torch

from app.spec.prune import PruneChannels
from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene
from tests.support.engine.pruned_networks import torchvision_program
from worker.engine.pruning.channels.analysis import analyse
from worker.engine.pruning.channels.choosing import candidates, choose
from worker.engine.pruning.channels.cost import Cost, cost_of
from worker.engine.pruning.channels.exactness import TOLERANCE, require_exact
from worker.engine.pruning.channels.importance import by_norm
from worker.engine.pruning.channels.removal import removed
from worker.engine.torch_program.program import Program

NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "shufflenet_v2_x1_0",
    "resnext50_32x4d",
)
SIDE = 224
SECONDS = 5.0
"""An analysis may take so long on one core."""
PUBLISHED = {"resnet18": 1.814e9, "resnet50": 4.089e9, "mobilenet_v2": 0.301e9, "vit_b_16": 17.564e9}
"""Multiply-accumulates for one image, on torchvision's pages."""


@dataclass(frozen=True)
class Halved:
    """What came of one network."""

    seconds: float
    before: Cost
    after: Cost
    difference: float


def tell(scene: Scene) -> list[Figure]:
    torch.set_num_threads(1)
    rows: list[Figure] = []
    for name in scene.pick(NETWORKS, ("resnet18", "vit_b_16")):
        scene.say(f"exporting {name}")
        program = torchvision_program(name, scene.pick(SIDE, 32))
        scene.say(f"pruning {name}")
        rows += figures(name, {step.round_to: halved(program, step) for step in (_step(1), _step(16))})
        if name in PUBLISHED and not scene.quick:
            rows.append(_as_published(name, program))
    return rows


def halved(program: Program, step: PruneChannels) -> Halved:
    """Remove half of the channels of every layer. Raises `NotExact`."""
    started = time.perf_counter()
    channels = analyse(program)
    seconds = time.perf_counter() - started
    pruned_mask = choose(channels, candidates(channels, by_norm(channels, 2), step), step)
    proof = require_exact(channels, pruned_mask, program.rebuilt(removed(channels, pruned_mask)))
    return Halved(seconds, cost_of(channels), cost_of(channels, pruned_mask), proof.difference)


def figures(name: str, halves: dict[int, Halved]) -> list[Figure]:
    """The rows of one network, by the size of the blocks that channels are kept in."""
    first = next(iter(halves.values()))
    rows = [Figure(f"{name}: analysis", min(halved.seconds for halved in halves.values()), "s", at_most(SECONDS))]
    for unit, scale, of in (("M parameters", 1e6, "parameters"), ("G multiply-accumulates", 1e9, "macs")):
        rows.append(Figure(f"{name}: before", getattr(first.before, of) / scale, unit))
        rows += [
            Figure(f"{name}: after, blocks of {block}", getattr(halved.after, of) / scale, unit)
            for block, halved in halves.items()
        ]
    worst = max(halved.difference for halved in halves.values())
    return [*rows, Figure(f"{name}: largest difference from the masked network", worst, "", at_most(TOLERANCE))]


def _step(block: int) -> PruneChannels:
    return PruneChannels(ratio=0.5, round_to=block)


def _as_published(name: str, program: Program) -> Figure:
    counted = cost_of(analyse(program)).macs
    return Figure(
        f"{name}: multiply-accumulates, off the published", abs(counted / PUBLISHED[name] - 1), "", at_most(0.005)
    )
