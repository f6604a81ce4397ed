"""A report as one HTML file that needs nothing else: no scripts, no fonts, no requests."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app.report import charts, devices, figures, svg
from app.report.text import arrows, one_line, shortened
from app.report.words import GRAPHS, HEADLINES, HOW_TO_READ, PROVENANCE, STATUSES, VERDICTS
from app.spec.report import Report
from app.spec.units import duration, file_size

WEAKEST_LAYERS = 8


def render_html(report: Report) -> str:
    """A whole page. Every text from outside is escaped, and the page's own policy allows it no script or request."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            matrix=devices.cells(report),
            matrix_notes=devices.notes(report),
            verdicts=VERDICTS,
            statuses=STATUSES,
            graphs=GRAPHS,
            headlines=HEADLINES,
            how_to_read=HOW_TO_READ,
            provenance=PROVENANCE,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.update(
        figures=figures,
        svg=svg,
        file_size=file_size,
        duration=duration,
        decibels=figures.decibels,
        pictures_of=charts.picture,
        chart_height=charts.HEIGHT,
        weakest=lambda layers: svg.weakest(layers, WEAKEST_LAYERS),
    )
    environment.filters.update(
        arrows=arrows, shortened=shortened, groupby_device=devices.by_device, grouped=lambda number: f"{number:,}"
    )
    return environment


def _printable(value: Any) -> Any:
    """Applied to every value a template shows; what templates made themselves is left alone."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
