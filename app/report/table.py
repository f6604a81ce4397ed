"""The short form for a terminal."""

from collections.abc import Sequence

from app.report import devices, figures
from app.report.text import arrows, one_line
from app.report.words import STATUSES, VERDICTS
from app.spec.report import Report, TargetReport

HEADER = ("", "before", "after", "change", "certainty")
GAP = "  "


def render_table(report: Report) -> str:
    """The verdict, and size, metrics and latency of each target before and after; ends with a line break."""
    parts = [f"{one_line(report.name)}: {VERDICTS[report.verdict].upper()}"]
    for target in report.targets:
        verdict = "" if len(report.targets) == 1 else f": {VERDICTS[target.verdict].lower()}"
        parts += ["", f"{one_line(figures.title(target))}{verdict} ({one_line(target.artifact)})", *_lines(target)]
        parts += ["", f"Status: {status}"] if (status := STATUSES[target.status]) else []
        parts += ["", *(f"* {arrows(one_line(reason))}" for reason in target.reasons)]
        parts += [f"* {arrows(one_line(note))}" for note in target.notes]
    if devices.rows(report):
        lines = (f"* {arrows(one_line(line))}" for line in devices.lines(report))
        parts += ["", "Devices", *_devices(report), "", *lines]
    for failure in report.failures:
        parts += ["", f"{failure.target.title}: not delivered", "", f"* {one_line(failure.explanation)}"]
    return "\n".join(parts) + "\n"


def _lines(target: TargetReport) -> list[str]:
    cells = [HEADER, *((row.figure, row.before, row.after, row.change, row.certainty) for row in figures.rows(target))]
    return _aligned(cells, right={1, 2})


def _devices(report: Report) -> list[str]:
    right = {column for column, side in enumerate(devices.ALIGNMENT) if side == "r"}
    return _aligned([devices.COLUMNS, *(tuple(map(one_line, row)) for row in devices.rows(report))], right)


def _aligned(cells: Sequence[tuple[str, ...]], right: set[int]) -> list[str]:
    """A table with its header underlined; the columns `right` hold numbers, the others words."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [_line(row, widths, right) for row in cells]
    return [aligned[0], GAP.join("-" * width for width in widths), *aligned[1:]]


def _line(cells: tuple[str, ...], widths: list[int], right: set[int]) -> str:
    padded = [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return GAP.join(padded).rstrip()
