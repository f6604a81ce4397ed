"""The device matrix as rows of a table: every artifact on every device, in the words of all renderings."""

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from app.report import figures
from app.spec.device_report import DeviceRun
from app.spec.devices import Provenance
from app.spec.report import Report, TargetReport
from app.spec.units import counted, duration, file_size

NOTHING = "—"
COLUMNS = ("Device", "Artifact", "Size", "p50", "p90", "Accuracy", "Same answer", "Fallback", "Source")
ALIGNMENT = "llrrrrrll"
"""l or r for each column."""


@dataclass(frozen=True)
class Cell:
    """One artifact on one device, as text."""

    label: str
    """Of the device, unique among those of a job."""
    device: str
    detail: str
    """Of the device: its processor, and what sets its clock."""
    artifact: str
    runtime: str
    size: str
    p50: str
    p90: str
    speed_detail: str
    """Batch, threads and load, or the range of an estimate."""
    quality: str
    drop: str
    dropped: bool
    """Whether the drop is larger than chance explains."""
    agreement: str
    agreement_detail: str
    fallback: str
    extras: str
    """Memory, heat, power: what only some devices tell."""
    provenance: Provenance
    failure: str


def cells(report: Report) -> list[Cell]:
    """The matrix by device, then by artifact; empty where no device was asked for."""
    runs = [(run, target) for target in report.targets for run in target.devices]
    order = list(dict.fromkeys(run.device.label for run, _ in runs))
    runs.sort(key=lambda pair: order.index(pair[0].device.label))
    return [_cell(run, target) for run, target in runs]


def by_device(matrix: list[Cell]) -> list[list[Cell]]:
    """The matrix, a list for each device."""
    return [list(cells) for _, cells in groupby(matrix, key=attrgetter("label"))]


def rows(report: Report) -> list[tuple[str, ...]]:
    """The matrix as plain lines, an entry for each of `COLUMNS`; what a failed device has to say is in `lines`."""
    return [
        (
            cell.device,
            cell.artifact,
            cell.size,
            _with(cell.p50, cell.speed_detail),
            cell.p90,
            _with(cell.quality, cell.drop),
            _with(cell.agreement, cell.agreement_detail),
            "failed" if cell.failure else _with(cell.fallback, cell.extras),
            cell.provenance,
        )
        for cell in cells(report)
    ]


def lines(report: Report) -> list[str]:
    """What stands below the plain lines: the machines, what failed and why, and the notes."""
    matrix = cells(report)
    machines = [f"{cell.device}: {cell.detail}." for cell in matrix if cell.detail]
    failures = [f"{cell.device}, {cell.artifact}: {cell.failure}" for cell in matrix if cell.failure]
    return list(dict.fromkeys((*machines, *failures, *notes(report))))


def notes(report: Report) -> list[str]:
    """What the devices' figures leave out, each sentence once."""
    artifacts_of: dict[tuple[str, str], list[str]] = {}
    for target in report.targets:
        for run in target.devices:
            for note in run.notes:
                artifacts_of.setdefault((run.device.title, note), []).append(figures.title(target))
    return [
        f"{device}, {', '.join(dict.fromkeys(artifacts))}: {note}" for (device, note), artifacts in artifacts_of.items()
    ]


def _with(figure: str, detail: str) -> str:
    return f"{figure} ({detail})" if detail else figure


def _cell(run: DeviceRun, target: TargetReport) -> Cell:
    p50, p90, speed_detail = _speed(run)
    quality, drop, dropped = _quality(run)
    agreement, agreement_detail = _agreement(run)
    return Cell(
        label=run.device.label,
        device=run.device.title,
        detail=_machine(run),
        artifact=figures.title(target),
        runtime=run.runtime,
        size=NOTHING if run.size_bytes is None else file_size(run.size_bytes),
        p50=p50,
        p90=p90,
        speed_detail=speed_detail,
        quality=quality,
        drop=drop,
        dropped=dropped,
        agreement=agreement,
        agreement_detail=agreement_detail,
        fallback=_fallback(run),
        extras=_extras(run),
        provenance=run.provenance,
        failure="" if run.failure is None else run.failure.explanation,
    )


def _speed(run: DeviceRun) -> tuple[str, str, str]:
    """p50, p90 and what they hold for. Emulated runs have none: the contract holds no time for them."""
    if run.latency is not None:
        return duration(run.latency.p50_ms), duration(run.latency.p90_ms), _conditions(run)
    if run.estimate is not None:
        span = f"{duration(run.estimate.low_ms)} to {duration(run.estimate.high_ms)}"
        return f"≈ {duration(run.estimate.p50_ms)}", NOTHING, f"{span}, {_conditions(run)}"
    if run.relative_instructions is not None:
        return NOTHING, NOTHING, f"{run.relative_instructions:.2f}× the original's instructions"
    return NOTHING, NOTHING, ""


def _conditions(run: DeviceRun) -> str:
    load = run.facts.load_average
    parts = (
        f"batch {run.batch}",
        None if run.threads is None else counted(run.threads, "thread"),
        None if load is None else f"load {load[0]:.1f} to {load[1]:.1f}",
    )
    return ", ".join(part for part in parts if part)


def _quality(run: DeviceRun) -> tuple[str, str, bool]:
    """The first metric on the device, what the original loses by it, and whether that is beyond chance."""
    if not run.metrics:
        return NOTHING, "", False
    change = run.metrics[0]
    level = f"{change.kind.label} {change.kind.level(change.after)}"
    if not change.drop:
        return level, "no drop", False
    lost, word = (change.drop, "drop") if change.drop > 0 else (-change.drop, "gain")
    return level, f"{word} {change.kind.amount(lost)}", change.outcome == "loss"


def _agreement(run: DeviceRun) -> tuple[str, str]:
    """With the original; beside it, with the same artifact on the worker."""
    shown = NOTHING if run.agreement_original is None else _share(run.agreement_original)
    if run.bit_exact:
        return shown, "bit-exact with the worker"
    return shown, "" if run.agreement is None else f"{_share(run.agreement)} as on the worker"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _fallback(run: DeviceRun) -> str:
    if run.illegal_instruction:
        return "illegal instruction"
    if run.fallback is None:
        return NOTHING
    return ", ".join(f"{count} {name}" for name, count in run.fallback.items()) or "none"


def _machine(run: DeviceRun) -> str:
    facts = run.facts
    clock = None if facts.governor is None else f"governor {facts.governor}"
    return ", ".join(part for part in (facts.cpu, clock) if part)


def _extras(run: DeviceRun) -> str:
    parts = (
        None if run.load_ms is None else f"loads in {duration(run.load_ms)}",
        None if run.peak_memory_bytes is None else f"{file_size(run.peak_memory_bytes)} at its peak",
        None if run.temperature_c is None else f"{run.temperature_c:.0f} °C",
        "throttled" if run.throttled else None,
        None if run.power_w is None else f"{run.power_w:.1f} W",
    )
    return ", ".join(part for part in parts if part)
