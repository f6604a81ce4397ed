"""The `estimated` device: latency by a roofline that was fitted to published latencies of similar networks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.spec.device_report import DeviceFacts, DeviceRun, Estimate
from app.spec.devices import EstimatedDevice
from app.spec.devices.published import published
from app.spec.targets import OnnxTarget, Target
from app.spec.units import counted
from worker.engine.devices.errors import NoRuntimeThere, NotFitted
from worker.engine.devices.roofline import Cost, Fitted, family_of, fitted
from worker.engine.devices.trial import Trial
from worker.engine.devices.workload import Workload, published_layers, workload_of

MOST_MEMORY: Final = 0.5
"""Of the time. AlexNet alone is published of networks that mostly wait for weights: too few to fit."""


def estimate(device: EstimatedDevice, trial: Trial) -> DeviceRun:
    """Latency alone. Raises `NotFitted` for what is unlike the networks whose latencies are published.

    Raises `NoRuntimeThere` for formats that the device cannot run.
    """
    comparison = trial.comparison
    if not runs_there(comparison.target, device):
        raise NoRuntimeThere(f"{comparison.target.label} does not run on this device.")
    workload = workload_of(graph_of(trial), comparison.signature, trial.timed_batch)
    family = family_of(depthwise=workload.depthwise, integer=workload.mostly_integer)
    fit = fitted(device.published, device.run.threads, family)
    cost = cost_of(device, workload)
    if cost.memory > MOST_MEMORY * cost.total:
        raise NotFitted("It would mostly wait for its weights: of such networks too little is published.")
    ratio = 1 + fit.range_error
    source = published().sources[device.run.source]
    least = cost.total if within(workload, fit) else cost.compute + cost.memory
    return DeviceRun(
        device=device,
        provenance=device.provenance,
        runtime=source.title.partition(",")[0],
        size_bytes=trial.size_bytes,
        threads=None if device.published.kind == "gpu" else device.run.threads,
        batch=trial.timed_batch,
        estimate=Estimate(
            p50_ms=1e3 * cost.total,
            low_ms=1e3 * least / ratio,
            high_ms=1e3 * cost.total * ratio,
            family=family.name,
            networks=tuple(fit.held_out),
            median_error=fit.median_error,
            worst_error=fit.worst_error,
            range_error=fit.range_error,
            bound=cost.bound,
            runtime=source.title.partition(",")[0],
            source=source.url,
            retrieved=source.retrieved,
        ),
        facts=DeviceFacts(cpu=device.published.processor),
        notes=(*notes(trial, workload, fit), f"Published: {source.url}, read on {source.retrieved}."),
    )


def runs_there(target: Target, device: EstimatedDevice) -> bool:
    """Whether the format has a runtime there: the devices have ARM processors, some an NVIDIA GPU, none is Apple's."""
    there = {"arm", "nvidia"} if device.published.kind == "gpu" else {"arm"}
    return not target.processors.isdisjoint(there)


def graph_of(trial: Trial) -> Path:
    """The ONNX file whose layers count: the artifact, or what the same plan makes of an ONNX file."""
    target = trial.comparison.target
    if isinstance(target, OnnxTarget):
        return trial.files[0]
    if trial.as_onnx is None:
        raise NotFitted(f"The layers of {target.label} cannot be read without the job that made it.")
    return trial.as_onnx(trial.folder / "estimated.onnx")


def cost_of(device: EstimatedDevice, workload: Workload) -> Cost:
    """Of layers in floating point and in integers, each by their own fit."""
    cost = Cost(0.0, 0.0, 0.0)
    for layers, integer in ((workload.floating, False), (workload.integer, True)):
        if len(layers):
            family = family_of(depthwise=workload.depthwise, integer=integer)
            cost += fitted(device.published, device.run.threads, family).roofline.cost(layers)
    return cost


def within(workload: Workload, fit: Fitted) -> bool:
    """Whether it is neither smaller nor larger than the networks of the fit."""
    sizes = [published_layers()[name].macs.sum() for name in fit.held_out]
    return bool(min(sizes) <= workload.macs <= max(sizes))


def notes(trial: Trial, workload: Workload, fit: Fitted) -> Iterator[str]:
    """What the estimate is worth, and where it is worth less."""
    yield (
        f"Estimated from {counted(len(fit.held_out), 'published network')} ({', '.join(fit.held_out)}). Each of them, "
        f"estimated from the others, was missed by {100 * fit.worst_error:.0f} % at most, half of them by "
        f"{100 * fit.median_error:.0f} %."
    )
    if fit.range_error > fit.worst_error:
        yield f"They are few: the range allows {100 * fit.range_error:.0f} %, what others of the kind are missed by."
    if not within(workload, fit):
        sizes = sorted(published_layers()[name].macs.sum() / 1e6 for name in fit.held_out)
        yield (
            f"The network's {workload.macs / 1e6:.3g} million multiplications lie outside of those of the published "
            f"ones ({sizes[0]:.0f} to {sizes[-1]:.0f} million), so that it may be missed by more; the lower end of the "
            "range leaves the fixed cost of layers out."
        )
    if trial.timed_batch != 1:
        yield "The published latencies are of batch 1."
