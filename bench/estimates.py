"""What estimated latencies are worth.

The error of the `estimated` devices on networks that were held out: each network of a family is estimated by a roofline
that was fitted to the others' published latencies, for every device and number of threads. 0.2 is a fifth too long or
too short; the range is from the best to the worst network.
"""

from statistics import median

from app.spec.devices.published import published
from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene
from worker.engine.devices.errors import NotFitted
from worker.engine.devices.roofline import FAMILIES, Fitted, fitted

TYPICAL = {"convolutional": 0.25, "depthwise": 0.15, "convolutional_int8": 0.35, "depthwise_int8": 0.2}
"""Required of the median over devices of the median network, by family."""


def tell(_scene: Scene) -> list[Figure]:
    """The median and the range of the errors, by family, then by device."""
    figures: list[Figure] = []
    for family in FAMILIES:
        fits: dict[str, Fitted] = {}
        for device in published().devices:
            for threads in device.threads:
                try:
                    fit = fitted(device, threads, family)
                except NotFitted:
                    continue
                on = "" if device.kind == "gpu" else f", {threads} {'thread' if threads == 1 else 'threads'}"
                fits[f"{device.title}{on}"] = fit
        medians = [fit.median_error for fit in fits.values()]
        figures.append(
            Figure(
                f"{family.name}, all devices",
                median(medians),
                bound=at_most(TYPICAL[family.name]),
                low=min(min(fit.errors) for fit in fits.values()),
                high=max(fit.worst_error for fit in fits.values()),
            )
        )
        figures += [
            Figure(f"{family.name}, {name}", fit.median_error, low=min(fit.errors), high=fit.worst_error)
            for name, fit in fits.items()
        ]
    return figures
