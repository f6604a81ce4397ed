"""The `local` device: the artifact on this worker, and the state of the machine while it was timed."""

import platform
from pathlib import Path

from app.spec.device_report import DeviceFacts, DeviceRun
from app.spec.devices import LocalDevice
from app.spec.evaluate import Latency
from app.spec.figures import Distribution
from worker.engine.devices.trial import Trial
from worker.engine.measure.host import foreign
from worker.engine.measure.latency import distribution
from worker.engine.measure.machine import describe_machine, load_average

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def run_locally(device: LocalDevice, trial: Trial) -> DeviceRun:
    """Figures of this machine; accuracy is what the target's report says, of the same runtime on the same rows.

    Latency is taken anew: the load and the governor beside it are those of the very runs. Raises `ModelRunFailed` and
    the errors of toolchains.
    """
    report, comparison = trial.report, trial.comparison
    asked = device.threads or comparison.evaluate.latency.threads
    threads = min(asked, comparison.host.cores)
    notes = [f"Timed on {threads} threads: {asked} were asked for, this worker has no more."] if threads < asked else []
    load_before = load_average()
    latency = None
    if comparison.timed_here:
        latency = _timed(trial, threads)
    else:
        notes.append(foreign(comparison.target, report.status))
    judged = comparison.judged
    compared = next((output for output in report.parity if output.output == judged), None)
    return DeviceRun(
        device=device,
        provenance=device.provenance,
        runtime=report.runtime,
        size_bytes=trial.size_bytes,
        threads=threads,
        batch=trial.timed_batch,
        latency=latency,
        metrics=report.metrics,
        rows=compared.rows if compared else 0,
        agreement_original=compared.top1_agreement if compared else None,
        fallback=report.placement.fallback,
        facts=_facts((load_before, load_average())),
        notes=tuple(notes),
    )


def _timed(trial: Trial, threads: int) -> Distribution:
    """Of the artifact, in turns with the original as everywhere: alone it would find its data in warmer caches."""
    comparison = trial.comparison
    settings: Latency = comparison.evaluate.latency.model_copy(update={"threads": threads})
    _, after = comparison.runtime.take_turns(trial.timed_feeds(), settings, comparison.seed)
    return distribution(after)


def _facts(load: tuple[float, float]) -> DeviceFacts:
    machine = describe_machine()
    return DeviceFacts(
        cpu=machine.cpu,
        cpu_flags=machine.cpu_flags,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        system=machine.system,
        governor=governor(),
        load_average=load,
        versions=machine.versions,
    )


def governor(file: Path = GOVERNOR) -> str | None:
    """What sets the first CPU's clock, "performance" for one; None where the system does not tell, as in most VMs."""
    if platform.system() != "Linux":
        return None
    try:
        return file.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None
