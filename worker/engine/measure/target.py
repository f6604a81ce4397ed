"""Everything that is measured of one delivered artifact."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.spec.data import ArraySpec
from app.spec.evaluate import Latency
from app.spec.figures import MetricChange
from app.spec.metrics import DEFAULT_METRICS, METRICS
from app.spec.report import LatencyChange, Profile, TargetReport
from app.spec.scores import are_class_numbers, class_axis, fits
from app.spec.signature import Dimension, Signature, TensorSpec
from app.spec.units import counted
from worker.engine.errors import LoadFailed
from worker.engine.measure.advice import Outcome, advice
from worker.engine.measure.class_axes import class_axes
from worker.engine.measure.comparison import Comparison
from worker.engine.measure.errors import ArtifactRunFailed, ModelRunFailed, ParityExceeded
from worker.engine.measure.host import foreign
from worker.engine.measure.latency import measure_latency
from worker.engine.measure.metrics.paired import PairedMetrics
from worker.engine.measure.parity import Parity
from worker.engine.measure.quality import ROUNDING_DB
from worker.engine.measure.running import Arrays, Run, paired
from worker.engine.measure.runtime import Layers
from worker.engine.measure.verdict import Figures, judge

ROWS_AT_ONCE = 32
SAME_INTEGERS = 0.99
"""Of integers that only changed their format: near ties of an argmax may flip by rounding, one in a hundred at most."""
COMPARING, LAYERS = 0.4, 0.6
"""Fractions of the stage at which the comparison of outputs and of layers end; latency takes the rest."""

MADE_UP = (
    "Outputs were compared on made-up rows, for want of test or calibration rows: they say little about real ones."
)


def measure_target(comparison: Comparison) -> TargetReport:
    """Measure an artifact against the original, on this machine.

    Latency is measured only where the machine is what the target's profile is for. Outputs are compared with those of
    the source program, or of the ONNX file where there is none. Raises the errors of `worker.engine.measure.errors`,
    and those of toolchains from a runtime that lives in one.
    """
    runtime, target = comparison.runtime, comparison.target
    with _faults_of_artifact():
        placement = runtime.placement()
    compared = _Compared() if comparison.status == "converted" else _compare_outputs(comparison)
    parity = compared.parity.outputs()
    if comparison.exact:
        _require_equal(compared.parity)
    timed = comparison.timed_here
    with _faults_of_artifact():
        layers, layer_notes = _compare_layers(comparison)
        latency, latency_notes = _measure_speed(comparison) if timed else ((), (foreign(target, comparison.status),))
        profile = _profile(comparison) if timed else None
    size, varying = runtime.size(), data_dependent_outputs(comparison.signature)
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
            judged=comparison.judged,
            uncompared=tuple(sorted(compared.parity.uncomparable - varying)),
            data_dependent=tuple(sorted(compared.parity.uncomparable & varying)),
            row_source=comparison.row_source,
            exact=comparison.exact or comparison.pure,
        )
    )
    outcome = Outcome(comparison.steps, placement, size, latency, layers, not judgement.quality_kept)
    comparison.progress.advance(1.0)
    return TargetReport(
        target=target,
        status=comparison.status,
        runtime=runtime.name,
        artifact=comparison.artifact.name,
        sha256=_digest(comparison.artifact),
        verdict=judgement.verdict,
        reasons=(*judgement.reasons, *advice(outcome)),
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


@contextmanager
def _faults_of_artifact() -> Iterator[None]:
    """What the original has done before and the artifact fails at is no fault of the upload."""
    try:
        yield
    except (LoadFailed, ModelRunFailed) as error:
        raise ArtifactRunFailed(f"The delivered file cannot be run. {error.detail}") from error


def _artifact(comparison: Comparison) -> Run:
    """What runs the artifact; the original has answered the same rows before."""

    def run(feeds: Arrays) -> Arrays:
        with _faults_of_artifact():
            return comparison.runtime.run(feeds)

    return run


def _require_equal(parity: Parity) -> None:
    """Raise `ParityExceeded` unless every output was compared and differs by rounding alone."""
    for name in sorted(parity.uncomparable):
        raise ParityExceeded(
            f"Output {name!r} has another shape than the original's, or no finite value, though only the format has "
            "changed."
        )
    for output in parity.outputs():
        rounded = output.sqnr_db is None or output.sqnr_db >= ROUNDING_DB
        if output.output in parity.discrete:
            rounded = (output.top1_agreement or 0.0) >= SAME_INTEGERS
        if output.non_finite or not rounded:
            raise ParityExceeded(
                f"Output {output.output!r} differs from the original's by up to {output.max_abs:.3g} "
                f"({output.sqnr_db or 0:.0f} dB), though only the format has changed."
            )


def data_dependent_outputs(signature: Signature) -> frozenset[str]:
    """Outputs with a dimension that no input has: how many entries there are follows from the values."""
    given = {size.name for tensor in signature.inputs for size in tensor.shape if isinstance(size, Dimension)}
    return frozenset(
        tensor.name
        for tensor in signature.outputs
        if any(isinstance(size, Dimension) and size.name not in given for size in tensor.shape)
    )


def _compare_outputs(comparison: Comparison) -> _Compared:
    """One pass over the rows for parity and metrics; metrics only where the rows are for testing."""
    parity, metrics = None, PairedMetrics(comparison.evaluate.metrics, comparison.evaluate.output)
    unused: tuple[str, ...] = ()
    rows, size, done = comparison.rows, comparison.batch.nearest(ROWS_AT_ONCE), 0
    for pair in paired(comparison.original(), _artifact(comparison), rows.batches(size), size):
        parity = parity or _parity(comparison, pair.labels)
        parity.add(pair)
        if comparison.row_source == "test":
            metrics.add(pair)
            unused = unused or _unused_labels(comparison, pair.labels)
        done += size
        comparison.progress.advance(COMPARING * min(1.0, done / len(rows)), "comparing outputs")
    changes, notes = metrics.changes()
    made_up = (MADE_UP,) if comparison.row_source == "synthetic" else ()
    parity = parity or Parity()
    return _Compared(parity, changes, (*notes, *unused, *made_up, *parity.notes()))


def _unused_labels(comparison: Comparison, labels: np.ndarray | None) -> tuple[str, ...]:
    """Why labels that are there judge nothing, which a job is told of when it is submitted, too."""
    if labels is None or comparison.evaluate.metrics:
        return ()
    spec = ArraySpec(dtype=labels.dtype.name, shape=labels.shape)
    obstacle = METRICS[DEFAULT_METRICS[0]].obstacle(_output(comparison), spec)
    if obstacle is None:
        return ("The labels of the test rows were not used: the job asks for no metric.",)
    return (f"The labels of the test rows were not used: {obstacle.reason}. {obstacle.remedy}",)


def _output(comparison: Comparison) -> TensorSpec:
    """The output that metrics judge."""
    return next(output for output in comparison.signature.outputs if output.name == comparison.judged)


def _parity(comparison: Comparison, labels: np.ndarray | None) -> Parity:
    """What compares outputs by their meaning; labels tell that of the output that they belong to."""
    judged = _output(comparison)
    classified: set[str] = set()
    regressed: set[str] = set()
    if labels is not None:
        spec = ArraySpec(dtype=labels.dtype.name, shape=labels.shape)
        numbers = are_class_numbers(judged, spec)
        (classified if numbers else regressed).update({judged.name} if fits(judged, spec) else ())
    if comparison.baseline is None:  # no graph to read: labels and the values themselves tell
        return Parity({name: class_axis(len(judged.shape)) for name in classified}, regressed)
    return Parity(class_axes(comparison.baseline, regressed, classified), regressed)


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
