"""A roofline for each device and family of networks: it multiplies at a rate, or waits for bytes at a bandwidth.

Two numbers are fitted to the published latencies of a family: the rate, and a fixed cost for each layer. The others
are the same everywhere, and were chosen once on all of the published figures (`python -m bench estimates`).
After Williams, Waterman, Patterson: Roofline, doi:10.1145/1498765.1498785.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from app.spec.device_report import NetworkFamily
from app.spec.devices.published import PublishedDevice, PublishedRun, published
from app.spec.units import counted
from worker.engine.devices.errors import NotFitted
from worker.engine.devices.workload import LayerCosts, published_layers

FAST: Final = 2.0
"""Multiplications that fast convolution saves: 2.25 or 4 by the size of its tiles, less what its transforms cost."""
BANDWIDTH_SHARE: Final = 0.2
"""Of the data sheet's bandwidth: what one layer's loads reach between others that compute."""
RATES: Final = np.geomspace(5e8, 2e13, 300)
"""Multiply-accumulates per second that are tried; neighbours differ by 4 %."""
OVERHEADS_S: Final = (0.0, 1e-5, 3e-5, 1e-4, 2e-4)
LEAST_NETWORKS: Final = 2
"""With fewer there is nothing to hold out."""
FEW_NETWORKS: Final = 4
"""With fewer, how far they miss each other says little: two may be nearly one network."""


@dataclass(frozen=True)
class Family:
    """Networks alike enough to share a rate."""

    name: NetworkFamily
    networks: tuple[str, ...]
    per_value: float
    """Multiplications that reading or writing one value costs: unfolding of windows, activation functions."""

    @property
    def integer(self) -> bool:
        """Whether it computes in integers of 8 bits."""
        return self.name.endswith("int8")

    def published(self, run: PublishedRun) -> dict[str, float]:
        """Seconds by network, of those that the run has."""
        names = {name: f"{name}_int8" if self.integer else name for name in self.networks}
        return {name: run.latency_ms[there] / 1e3 for name, there in names.items() if there in run.latency_ms}


PLAIN: Final = ("squeezenet", "googlenet", "resnet18", "vgg16", "resnet50")
SEPARABLE: Final = (
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "shufflenet_v2",
    "mnasnet",
    "efficientnet_b0",
    "mobilenet_ssd",
)
FAMILIES: Final = (
    Family("convolutional", PLAIN, 30.0),
    Family("depthwise", SEPARABLE, 0.0),
    Family("convolutional_int8", PLAIN, 60.0),
    Family("depthwise_int8", SEPARABLE, 0.0),
)


def family_of(*, depthwise: bool, integer: bool) -> Family:
    """The one that a network belongs to."""
    return FAMILIES[2 * integer + depthwise]


@dataclass(frozen=True)
class Cost:
    """Seconds, by what they go to."""

    compute: float
    memory: float
    overhead: float

    @property
    def total(self) -> float:
        """Seconds of one batch."""
        return self.compute + self.memory + self.overhead

    @property
    def bound(self) -> Literal["compute", "memory", "overhead"]:
        """The part that takes most of the time."""
        parts: dict[Literal["compute", "memory", "overhead"], float]
        parts = {"compute": self.compute, "memory": self.memory, "overhead": self.overhead}
        return max(parts, key=lambda name: parts[name])

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.compute + other.compute, self.memory + other.memory, self.overhead + other.overhead)


@dataclass(frozen=True)
class Roofline:
    """Fitted to a device, a number of threads and a family. `rate`: multiply-accumulates per second."""

    device: PublishedDevice
    family: Family
    rate: float
    overhead_s: float

    def cost(self, layers: LayerCosts) -> Cost:
        """Seconds that the layers take."""
        compute, memory = work(self.device, self.family, layers)
        compute = compute / self.rate
        waits = memory > compute
        return Cost(float(compute[~waits].sum()), float(memory[waits].sum()), self.overhead_s * len(layers))


def work(device: PublishedDevice, family: Family, layers: LayerCosts) -> tuple[np.ndarray, np.ndarray]:
    """Multiplications of each layer, and seconds that its bytes take: none for what stays in the cache."""
    multiplied = layers.macs / np.where(layers.fast, FAST, 1.0) + family.per_value * layers.values
    moved = (layers.weights + layers.values) * (1 if family.integer else device.float_bytes)
    beyond = moved > device.cache_bytes
    return multiplied, np.where(beyond, moved / (BANDWIDTH_SHARE * device.bandwidth_bytes_per_s), 0.0)


def fit(device: PublishedDevice, family: Family, seconds: Mapping[str, float]) -> Roofline:
    """The rate and overhead with the least squares of relative errors on these networks."""
    errors = {overhead: _squares(device, family, seconds, overhead) for overhead in OVERHEADS_S}
    best = min(errors, key=lambda overhead: float(errors[overhead].min()))
    return Roofline(device, family, float(RATES[errors[best].argmin()]), best)


def _squares(device: PublishedDevice, family: Family, seconds: Mapping[str, float], overhead: float) -> np.ndarray:
    """Of the relative errors, summed over the networks, at every rate."""
    published = np.array(list(seconds.values()))[:, None]
    estimated = np.stack([_seconds(device, family, published_layers()[name], overhead) for name in seconds])
    squares: np.ndarray = np.square(np.log(estimated / published))
    return squares.sum(axis=0)


def _seconds(device: PublishedDevice, family: Family, layers: LayerCosts, overhead: float) -> np.ndarray:
    """Seconds that the layers take at each of `RATES`, float64 `[len(RATES)]`."""
    multiplied, memory = work(device, family, layers)
    each: np.ndarray = np.maximum(multiplied / RATES[:, None], memory) + overhead
    return each.sum(axis=1)


@dataclass(frozen=True)
class Fitted:
    """A roofline, and what it is worth."""

    roofline: Roofline
    held_out: dict[str, float]
    """Estimated / published, of each network by a fit to the others."""

    @property
    def errors(self) -> Sequence[float]:
        """Of the networks held out, as shares: 1 for twice too long, and for half."""
        return [max(ratio, 1 / ratio) - 1 for ratio in self.held_out.values()]

    @property
    def median_error(self) -> float:
        """Half of the networks are missed by no more."""
        return float(np.median(self.errors))

    @property
    def worst_error(self) -> float:
        """The network that is missed most."""
        return max(self.errors)

    @property
    def range_error(self) -> float:
        """The worst error; of few networks, no less than the kind's usual worst in floating point."""
        if len(self.held_out) >= FEW_NETWORKS:
            return self.worst_error
        return max(self.worst_error, usual_worst(depthwise="depthwise" in self.roofline.family.name))


def fitted(device: PublishedDevice, threads: int, family: Family) -> Fitted:
    """The roofline for a family on a device. Raises `NotFitted` where too little is published."""
    run = next(run for run in device.runs if run.threads == threads)
    seconds = family.published(run)
    if len(seconds) < LEAST_NETWORKS:
        on = "" if device.kind == "gpu" else f" on {counted(threads, 'thread')}"
        raise NotFitted(
            f"{device.title}{on}: latencies of {counted(len(seconds), 'network')} of the kind '{family.name}' are "
            "published, too few to tell what an estimate is worth."
        )
    held_out = {}
    for name, taken in seconds.items():
        others = {other: value for other, value in seconds.items() if other != name}
        held_out[name] = fit(device, family, others).cost(published_layers()[name]).total / taken
    return Fitted(fit(device, family, seconds), held_out)


@lru_cache(maxsize=2)
def usual_worst(*, depthwise: bool) -> float:
    """The median over all published CPU runs of the worst error, in floating point, of fits to enough networks."""
    family = family_of(depthwise=depthwise, integer=False)
    cpus = (device for device in published().devices if device.kind == "cpu")
    runs = ((device, run) for device in cpus for run in device.runs if len(family.published(run)) >= FEW_NETWORKS)
    return float(np.median([fitted(device, run.threads, family).worst_error for device, run in runs]))
