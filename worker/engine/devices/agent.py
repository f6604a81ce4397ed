"""The `agent` device: the artifact on a device in the field, by its own runtime on its own processor."""

from pathlib import Path

import numpy as np

from app.spec.agents import AgentMeasurement, AgentOrder, Timing
from app.spec.device_report import DeviceFacts, DeviceRun
from app.spec.devices import AgentDevice
from worker.engine.devices.agent_task import Answered, ask
from worker.engine.devices.errors import AnswersMissing, FormatNotRun
from worker.engine.devices.recording import loaded
from worker.engine.devices.trial import Trial
from worker.engine.measure.intervals import ratio_of_medians
from worker.engine.measure.latency import NS_PER_MS, distribution
from worker.engine.targets.toolchain_runtime import ToolchainRuntime

DEADLINE_S = 1800.0
"""For loading and computing the rows: a Raspberry Pi 3 takes a second for a ResNet-50, and is sent up to 512 rows."""


def run_on_agent(device: AgentDevice, trial: Trial) -> DeviceRun:
    """What the device measured, its outputs judged here. Raises `FormatNotRun`, `AnswersMissing`."""
    comparison = trial.comparison
    runtime = comparison.target.agent_runtime
    if runtime is None:
        raise FormatNotRun(f"No agent runs {comparison.target.title}.")
    latency = comparison.evaluate.latency
    order = AgentOrder(
        runtime=runtime,
        timing=Timing(
            batch=trial.timed_batch,
            threads=device.threads or latency.threads,
            runs=latency.runs,
            budget_s=latency.budget_s,
        ),
        seed=comparison.seed,
        deadline_s=DEADLINE_S + 2 * latency.budget_s,
    )
    batches = (loaded(batch.feeds) for batch in trial.recording.batches)
    files = {"artifact": trial.files[0], "baseline": _baseline(trial)}
    answered = ask(
        device.agent,
        order,
        files,
        batches,
        trial.timed_feeds(),
        directory=trial.directory,
        progress=comparison.progress,
    )
    if answered.measurement is None:
        return DeviceRun(
            device=device, provenance=device.provenance, size_bytes=trial.size_bytes, failure=answered.failure
        )
    return _compared(device, trial, answered, answered.measurement)


def _baseline(trial: Trial) -> Path:
    """The original in the artifact's own format."""
    runtime = trial.comparison.runtime
    if isinstance(runtime, ToolchainRuntime):
        return runtime.toolchain.folder / runtime.baseline[0]
    return trial.comparison.onnx_baseline


def _compared(device: AgentDevice, trial: Trial, answered: Answered, measurement: AgentMeasurement) -> DeviceRun:
    try:
        compared = trial.recording.compare(answered.outputs())
    except (ValueError, KeyError, OSError) as error:
        raise AnswersMissing("What it sent back are no outputs.") from error
    facts, condition = measurement.facts, measurement.condition
    return DeviceRun(
        device=device,
        provenance=device.provenance,
        runtime=measurement.runtime,
        size_bytes=trial.size_bytes,
        threads=measurement.threads,
        batch=measurement.batch,
        latency=distribution(np.array(measurement.after_ns, np.float64)),
        metrics=compared.metrics,
        rows=compared.rows,
        agreement=compared.agreement,
        agreement_original=compared.agreement_original,
        bit_exact=compared.bit_exact,
        load_ms=measurement.load_ms,
        peak_memory_bytes=measurement.peak_memory_bytes,
        temperature_c=condition.temperature_c,
        throttled=condition.throttled,
        power_w=condition.power_w,
        facts=DeviceFacts(
            cpu=facts.cpu,
            cpu_flags=facts.cpu_flags,
            cores=facts.cores,
            memory_bytes=facts.memory_bytes,
            system=f"{facts.system} {facts.arch}",
            governor=condition.governor,
            versions={"python": facts.python, "pare-agent": facts.version, **facts.runtimes},
        ),
        notes=(_against_the_original(measurement, trial.comparison.seed), *compared.notes, *measurement.notes),
    )


def _against_the_original(measurement: AgentMeasurement, seed: int) -> str:
    before, after = (np.array(times, np.float64) for times in (measurement.before_ns, measurement.after_ns))
    original = f"The original takes {np.median(before) / NS_PER_MS:.3g} ms (p50) there"
    if len(before) != len(after):
        return f"{original}."
    speedup, low, high = ratio_of_medians(before, after, np.random.default_rng(seed))
    return f"{original}, {speedup:.2f} times as long ({low:.2f} to {high:.2f})."
