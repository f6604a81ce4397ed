"""The conditions a result must meet. One that could not be measured is missed: it has not been shown to hold."""

from collections.abc import Iterator

from app.spec.evaluate import Limits, OutputLimits
from app.spec.figures import MetricChange
from app.spec.metrics import METRICS
from app.spec.report import LatencyChange, OutputParity, Size
from app.spec.units import speed


def missed_limits(
    limits: Limits,
    *,
    size: Size,
    metrics: tuple[MetricChange, ...],
    latency: tuple[LatencyChange, ...],
    parity: tuple[OutputParity, ...],
    batches: tuple[int, ...],
    elsewhere: str | None,
) -> tuple[str, ...]:
    """One sentence for each limit of `evaluate.limits` that does not hold; `batches` are those asked for.

    `elsewhere`: that of a target whose speed this machine cannot show.
    """
    if elsewhere is not None:
        speeds = _unmeasurable_speed(limits, elsewhere)
    else:
        speeds = _missed_speed(limits, latency, batches)
    return (
        *_missed_drops(limits, metrics),
        *_missed_size(limits, size),
        *speeds,
        *_missed_outputs(limits, parity),
    )


def _missed_drops(limits: Limits, metrics: tuple[MetricChange, ...]) -> Iterator[str]:
    changes = {change.metric: change for change in metrics}
    for name, most in limits.max_drop.items():
        allowed = METRICS[name].amount(most)
        if name not in changes:
            yield f"Limit missed: {name} may lose at most {allowed}, but was not measured."
        elif changes[name].drop > most:
            lost = METRICS[name].amount(changes[name].drop)
            yield f"Limit missed: {name} lost {lost}, at most {allowed} is allowed."


def _missed_size(limits: Limits, size: Size) -> Iterator[str]:
    most = limits.max_size_ratio
    if most is not None and size.ratio > most:
        yield f"Limit missed: the file has {size.ratio:.3g} times the original's size, at most {most:g} is allowed."


def _missed_speed(limits: Limits, latency: tuple[LatencyChange, ...], batches: tuple[int, ...]) -> Iterator[str]:
    least = limits.min_speedup
    if least is None:
        return
    measured = {change.batch for change in latency}
    for change in latency:
        if change.speedup < least:
            yield f"Limit missed: {speed(change.speedup)} at batch {change.batch}, at least {speed(least)} is required."
    for batch in batches:
        if batch not in measured:
            yield f"Limit missed: {speed(least)} is required at batch {batch}, which was not measured."


def _unmeasurable_speed(limits: Limits, profile: str) -> Iterator[str]:
    if limits.min_speedup is not None:
        yield (
            f"Limit missed: {speed(limits.min_speedup)} is required, but speed on {profile} cannot be measured on this "
            "machine; measure it there, and leave `evaluate.limits.min_speedup` out here."
        )


def _missed_outputs(limits: Limits, parity: tuple[OutputParity, ...]) -> Iterator[str]:
    """Signal to noise and agreement, of each output by what is said of it, else by what is said of all."""
    yield from _unmeasured_outputs(limits, parity)
    for output in parity:
        own = limits.outputs.get(output.output, OutputLimits())
        noise = limits.min_sqnr_db if own.min_sqnr_db is None else own.min_sqnr_db
        if noise is not None and output.sqnr_db is not None and output.sqnr_db < noise:
            yield (
                f"Limit missed: output {output.output!r} has {output.sqnr_db:.1f} dB signal to noise, "
                f"at least {noise:g} dB is required."
            )
        same = limits.min_agreement if own.min_agreement is None else own.min_agreement
        if same is not None and output.top1_agreement is not None and output.top1_agreement < same:
            yield (
                f"Limit missed: output {output.output!r} keeps {output.top1_agreement:.1%} of its answers, "
                f"at least {same:.1%} is required."
            )


def _unmeasured_outputs(limits: Limits, parity: tuple[OutputParity, ...]) -> Iterator[str]:
    compared = {output.output: output for output in parity}
    if limits.min_sqnr_db is not None and not parity:
        yield f"Limit missed: outputs need {limits.min_sqnr_db:g} dB signal to noise, but none could be compared."
    if limits.min_agreement is not None and not any(output.top1_agreement is not None for output in parity):
        yield (
            f"Limit missed: {limits.min_agreement:.1%} of the answers are to stay the same, but no output has answers "
            "that could be compared."
        )
    for name, own in limits.outputs.items():
        if name not in compared:
            yield f"Limit missed: output {name!r} has limits of its own, but could not be compared."
        elif own.min_agreement is not None and compared[name].top1_agreement is None:
            yield (
                f"Limit missed: output {name!r} is to keep {own.min_agreement:.1%} of its answers, but holds none that "
                "could be compared."
            )
