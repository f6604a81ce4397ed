"""One picture for many reports: a bar, or several, for each layer."""

from collections.abc import Mapping, Sequence

from app.spec.report import MOST_POINTS, Chart, Series


def layer_bars(
    title: str,
    y_label: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_label: str = "layer",
) -> Chart:
    """Bars in the order of the graph, the first `MOST_POINTS` of them; `series` are values by what they are."""
    return Chart(
        title=title,
        kind="bars",
        x_label=x_label,
        y_label=y_label,
        x=tuple(names[:MOST_POINTS]),
        series=tuple(Series(name=name, values=tuple(values[:MOST_POINTS])) for name, values in series.items()),
    )
