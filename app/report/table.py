"""The short form for a terminal."""

from app.report import figures
from app.report.text import arrows, plain
from app.report.words import STATUSES, VERDICTS
from app.spec.report import Report, TargetReport

HEADER = ("", "before", "after", "change", "certainty")
GAP = "  "


def render_table(report: Report) -> str:
    """The verdict, and size, metrics and latency of each target before and after; ends with a line break."""
    parts = [f"{plain(report.name)}: {VERDICTS[report.verdict].upper()}"]
    for target in report.targets:
        verdict = "" if len(report.targets) == 1 else f": {VERDICTS[target.verdict].lower()}"
        parts += ["", f"{plain(figures.title(target))}{verdict} ({plain(target.artifact)})", *_lines(target)]
        parts += ["", f"Status: {status}"] if (status := STATUSES[target.status]) else []
        parts += ["", *(f"* {arrows(plain(reason))}" for reason in target.reasons)]
        parts += [f"* {arrows(plain(note))}" for note in target.notes]
    for failure in report.failures:
        parts += ["", f"{failure.target.title}: not delivered", "", f"* {plain(f'{failure.detail} {failure.remedy}')}"]
    return "\n".join(parts) + "\n"


def _lines(target: TargetReport) -> list[str]:
    cells = [HEADER, *((row.figure, row.before, row.after, row.change, row.certainty) for row in figures.rows(target))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    aligned = [_line(row, widths) for row in cells]
    return [aligned[0], GAP.join("-" * width for width in widths), *aligned[1:]]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Numbers to the right, words to the left."""
    padded = [
        cell.rjust(width) if column in (1, 2) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return GAP.join(padded).rstrip()
