"""Everything that is measured of one delivered artifact."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from app.spec.evaluate import Latency
from app.spec.figures import MetricChange
from app.spec.report import LatencyChange, OutputParity, Profile, TargetReport
from app.spec.units import counted
from worker.engine.measure.comparison import Comparison
from worker.engine.measure.errors import ParityExceeded
from worker.engine.measure.host import foreign
from worker.engine.measure.latency import measure_latency
from worker.engine.measure.metrics.paired import PairedMetrics
from worker.engine.measure.parity import Parity
from worker.engine.measure.running import paired
from worker.engine.measure.runtime import Layers
from worker.engine.measure.verdict import Figures, judge

ROWS_AT_ONCE = 32
ROUNDING_DB = 60.0
"""Float32 in another order of sums lies above 100 dB; a wrong operator lies below 30."""
COMPARING, LAYERS = 0.4, 0.6
"""Fractions of the stage at which the comparison of outputs and of layers end; latency takes the rest."""

MADE_UP = (
    "Outputs were compared on made-up rows, for want of test or calibration rows: they say little about real ones."
)


def measure_target(comparison: Comparison) -> TargetReport:
    """Measure an artifact against the original, on this machine.

    Latency is measured only where the machine is what the target's profile is for. Outputs are compared with those of
    the source program, or of the ONNX file where there is none. Raises `LoadFailed` and the errors of
    `worker.engine.measure.errors`; those of toolchains from a runtime that lives in one.
    """
    runtime, target = comparison.runtime, comparison.target
    placement = runtime.placement()
    compared = _Compared() if comparison.status == "converted" else _compare_outputs(comparison)
    parity = compared.parity.outputs()
    if comparison.exact:
        _require_equal(parity)
    layers, layer_notes = _compare_layers(comparison)
    timed = comparison.timed_here
    latency, latency_notes = _measure_speed(comparison) if timed else ((), (foreign(target, comparison.status),))
    profile = _profile(comparison) if timed else None
    size = runtime.size()
    judgement = judge(
        Figures(
            size=size,
            metrics=compared.metrics,
            latency=latency,
            parity=parity,
            limits=comparison.evaluate.limits,
            batches=comparison.evaluate.latency.batch,
            elsewhere=None if timed else target.label,
            non_finite=sum(output.non_finite for output in parity),
            discrete=frozenset(compared.parity.discrete),
        )
    )
    comparison.progress.advance(1.0)
    return TargetReport(
        target=target,
        status=comparison.status,
        runtime=runtime.name,
        artifact=comparison.artifact.name,
        sha256=_digest(comparison.artifact),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        missed_limits=judgement.missed_limits,
        size=size,
        metrics=compared.metrics,
        latency=latency,
        parity=parity,
        parity_data=comparison.row_source,
        placement=placement,
        layers=layers,
        profile=profile,
        notes=(*compared.notes, *layer_notes, *latency_notes),
    )


@dataclass(frozen=True)
class _Compared:
    """What the outputs tell; nothing where they were not compared."""

    parity: Parity = field(default_factory=Parity)
    metrics: tuple[MetricChange, ...] = ()
    notes: tuple[str, ...] = ()


def _require_equal(parity: tuple[OutputParity, ...]) -> None:
    """Raise `ParityExceeded` unless outputs differ by rounding alone."""
    for output in parity:
        if output.non_finite or (output.sqnr_db is not None and output.sqnr_db < ROUNDING_DB):
            raise ParityExceeded(
                f"Output {output.output!r} differs from the original's by up to {output.max_abs:.3g} "
                f"({output.sqnr_db or 0:.0f} dB), though only the format has changed."
            )


def _compare_outputs(comparison: Comparison) -> _Compared:
    """One pass over the rows for parity and metrics; metrics only where the rows are for testing."""
    parity, metrics = Parity(), PairedMetrics(comparison.evaluate.metrics, comparison.evaluate.output)
    rows, size, done = comparison.rows, comparison.batch.nearest(ROWS_AT_ONCE), 0
    for pair in paired(comparison.original(), comparison.runtime.run, rows.batches(size), size):
        parity.add(pair)
        if comparison.row_source == "test":
            metrics.add(pair)
        done += size
        comparison.progress.advance(COMPARING * min(1.0, done / len(rows)), "comparing outputs")
    changes, notes = metrics.changes()
    made_up = (MADE_UP,) if comparison.row_source == "synthetic" else ()
    return _Compared(parity, changes, (*notes, *made_up, *parity.notes()))


def _compare_layers(comparison: Comparison) -> Layers:
    def advance(done: float) -> None:
        comparison.progress.advance(COMPARING + (LAYERS - COMPARING) * done, "comparing layers")

    return comparison.runtime.layers(comparison.rows, comparison.batch, advance)


def _measure_speed(comparison: Comparison) -> tuple[tuple[LatencyChange, ...], tuple[str, ...]]:
    """Latency at every batch size asked for that the model takes; at its own where it takes none of them."""
    settings, capped = _within_cores(comparison)
    notes = capped + tuple(
        f"Latency at batch {size} was not measured: the model's batch is {comparison.batch}."
        for size in settings.batch
        if size not in comparison.batch
    )
    sizes = comparison.timed_batches
    changes = []
    for position, size in enumerate(sizes):
        comparison.progress.advance(LAYERS + (1 - LAYERS) * position / len(sizes), f"timing at batch {size}")
        changes.append(measure_latency(comparison.runtime, comparison.feeds(size), settings, comparison.seed))
    return tuple(changes), notes


def _profile(comparison: Comparison) -> Profile | None:
    """Where the time goes, at the first of the batch sizes that are timed."""
    settings, _ = _within_cores(comparison)
    return comparison.runtime.profile(comparison.feeds(comparison.timed_batches[0]), settings.threads)


def _within_cores(comparison: Comparison) -> tuple[Latency, tuple[str, ...]]:
    """No more threads than cores, which would time their waiting for each other; a note if fewer than asked for."""
    settings, cores = comparison.evaluate.latency, comparison.host.cores
    if settings.threads <= cores:
        return settings, ()
    note = (
        f"Latency was measured on {counted(cores, 'thread')}: {settings.threads} were asked for, this worker has no "
        "more."
    )
    return settings.model_copy(update={"threads": cores}), (note,)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
