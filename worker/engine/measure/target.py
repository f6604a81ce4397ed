"""Everything that is measured of one delivered artifact."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.spec.evaluate import Evaluate, Latency
from app.spec.figures import MetricChange
from app.spec.report import LatencyChange, OutputParity, Profile, TargetReport, TargetStatus
from app.spec.signature import Signature
from app.spec.targets import Target
from app.spec.units import counted
from worker.engine.data.rows import Rows
from worker.engine.measure.batching import AnyRows, BatchRange, SyntheticRows
from worker.engine.measure.errors import ParityExceeded
from worker.engine.measure.host import Host, foreign
from worker.engine.measure.latency import measure_latency
from worker.engine.measure.metrics.paired import PairedMetrics
from worker.engine.measure.parity import Parity
from worker.engine.measure.running import Arrays, filled, paired, runner
from worker.engine.measure.runtime import Runtime
from worker.engine.measure.verdict import Figures, judge
from worker.engine.model import Reference
from worker.engine.onnx_graph.sessions import session
from worker.engine.progress import Progress

ROWS_AT_ONCE = 32
ROUNDING_DB = 60.0
"""Float32 in another order of sums lies above 100 dB; a wrong operator lies below 30."""
COMPARING, LAYERS = 0.4, 0.6
"""Fractions of the stage at which the comparison of outputs and of layers end; latency takes the rest."""

MADE_UP = (
    "Outputs were compared on made-up rows, for want of test or calibration rows: they say little about real ones."
)

Source = Literal["test", "calibration", "synthetic"]


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what."""

    baseline: Path
    runtime: Runtime
    reference: Reference | None
    rows: AnyRows
    source: Source
    evaluate: Evaluate
    batch: BatchRange
    threads: int
    seed: int
    progress: Progress
    host: Host


def measure_target(  # noqa: PLR0913  # one call with everything a measurement depends on, all by name
    *,
    target: Target,
    runtime: Runtime,
    artifact: Path,
    status: TargetStatus = "executed",
    exact: bool = False,
    baseline: Path,
    reference: Reference | None,
    test: Rows | None,
    calibration: Rows | None,
    evaluate: Evaluate,
    signature: Signature,
    threads: int,
    seed: int,
    progress: Progress,
    host: Host | None = None,
) -> TargetReport:
    """Measure `artifact`, open on its `runtime`, against the original, on this machine.

    `status`: other than "executed", what runs here stands in for the target's own runtime: nothing is timed. What was
    converted alone is not compared either.
    `exact`: only the format has changed, so that outputs may differ by rounding alone.
    `baseline`: the original as a float32 ONNX file. Latency is measured only where `host`, this machine unless given,
    is what the target's profile is for.

    Outputs are compared with those of `reference`, the source program, or of `baseline` where there is none:
    on the test rows if they are given, else on the calibration rows, else on made-up ones. `threads` is for
    everything but latency, whose own is `evaluate.latency.threads`. Raises `LoadFailed` and the errors of
    `worker.engine.measure.errors`; those of toolchains from a runtime that lives in one.
    """
    rows, source = choose_rows(test, calibration, signature, seed)
    batch = BatchRange.of(signature)
    host = host or Host.here()
    subject = Subject(baseline, runtime, reference, rows, source, evaluate, batch, threads, seed, progress, host)
    placement = runtime.placement()
    compared: Parity
    metrics: tuple[MetricChange, ...]
    notes: tuple[str, ...]
    if status == "converted":
        compared, metrics, notes = Parity(), (), ()
    else:
        compared, metrics, notes = _compare_outputs(subject)
    parity = compared.outputs()
    if exact:
        _require_equal(parity)
    layers, layer_notes = runtime.layers(
        rows, batch, lambda done: progress.advance(COMPARING + (LAYERS - COMPARING) * done, "comparing layers")
    )
    represented = status == "executed" and host.represents(target)
    latency, latency_notes = _measure_speed(subject) if represented else ((), (foreign(target, status),))
    profile = _profile(subject) if represented else None
    size = runtime.size()
    judgement = judge(
        Figures(
            size=size,
            metrics=metrics,
            latency=latency,
            parity=parity,
            limits=evaluate.limits,
            batches=evaluate.latency.batch,
            elsewhere=None if represented else target.label,
            non_finite=sum(output.non_finite for output in parity),
            discrete=frozenset(compared.discrete),
        )
    )
    progress.advance(1.0)
    with artifact.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return TargetReport(
        target=target,
        status=status,
        runtime=runtime.name,
        artifact=artifact.name,
        sha256=digest,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        missed_limits=judgement.missed_limits,
        size=size,
        metrics=metrics,
        latency=latency,
        parity=parity,
        parity_data=source,
        placement=placement,
        layers=layers,
        profile=profile,
        notes=(*notes, *layer_notes, *latency_notes),
    )


def _require_equal(parity: tuple[OutputParity, ...]) -> None:
    """Raise `ParityExceeded` unless outputs differ by rounding alone."""
    for output in parity:
        if output.non_finite or (output.sqnr_db is not None and output.sqnr_db < ROUNDING_DB):
            raise ParityExceeded(
                f"Output {output.output!r} differs from the original's by up to {output.max_abs:.3g} "
                f"({output.sqnr_db or 0:.0f} dB), though only the format has changed."
            )


def choose_rows(test: Rows | None, calibration: Rows | None, signature: Signature, seed: int) -> tuple[AnyRows, Source]:
    """The best rows there are to run the models on."""
    if test is not None and len(test):
        return test, "test"
    if calibration is not None and len(calibration):
        return calibration, "calibration"
    return SyntheticRows(signature, seed), "synthetic"


def _compare_outputs(subject: Subject) -> tuple[Parity, tuple[MetricChange, ...], tuple[str, ...]]:
    """One pass over the rows for parity and metrics; metrics only where the rows are for testing."""
    before = subject.reference or runner(session(subject.baseline, subject.threads))
    after = subject.runtime.run
    parity, metrics = Parity(), PairedMetrics(subject.evaluate.metrics, subject.evaluate.output)
    size, done = subject.batch.nearest(ROWS_AT_ONCE), 0
    for pair in paired(before, after, subject.rows.batches(size), size):
        parity.add(pair)
        if subject.source == "test":
            metrics.add(pair)
        done += size
        subject.progress.advance(COMPARING * min(1.0, done / len(subject.rows)), "comparing outputs")
    changes, notes = metrics.changes()
    made_up = (MADE_UP,) if subject.source == "synthetic" else ()
    return parity, changes, (*notes, *made_up, *parity.notes())


def _measure_speed(subject: Subject) -> tuple[tuple[LatencyChange, ...], tuple[str, ...]]:
    """Latency at every batch size asked for that the model takes; at its own where it takes none of them."""
    plan, capped = _within_cores(subject.evaluate.latency, subject.host.cores)
    notes = capped + tuple(
        f"Latency at batch {size} was not measured: the model's batch is {subject.batch}."
        for size in plan.batch
        if size not in subject.batch
    )
    sizes = _sizes(subject, plan)
    changes = []
    for position, size in enumerate(sizes):
        subject.progress.advance(LAYERS + (1 - LAYERS) * position / len(sizes), f"timing at batch {size}")
        changes.append(measure_latency(subject.runtime, _feeds(subject, size), plan, subject.seed))
    return tuple(changes), notes


def _profile(subject: Subject) -> Profile | None:
    """Where the time goes, at the first of the batch sizes that are timed."""
    plan, _ = _within_cores(subject.evaluate.latency, subject.host.cores)
    return subject.runtime.profile(_feeds(subject, _sizes(subject, plan)[0]), plan.threads)


def _sizes(subject: Subject, plan: Latency) -> list[int]:
    """The batch sizes to time: those asked for that the model takes, else its own."""
    sizes = list(dict.fromkeys(size for size in plan.batch if size in subject.batch))
    return sizes or [subject.batch.nearest(plan.batch[0])]


def _feeds(subject: Subject, size: int) -> Arrays:
    feeds, _ = next(iter(subject.rows.batches(min(size, len(subject.rows)))))
    return filled(feeds, size)


def _within_cores(plan: Latency, cores: int) -> tuple[Latency, tuple[str, ...]]:
    """The plan with no more threads than cores, which would time their waiting for each other; a note if it differs."""
    if plan.threads <= cores:
        return plan, ()
    note = (
        f"Latency was measured on {counted(cores, 'thread')}: {plan.threads} were asked for, this worker has no more."
    )
    return plan.model_copy(update={"threads": cores}), (note,)
