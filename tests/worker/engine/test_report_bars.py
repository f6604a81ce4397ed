"""Bars by layer: no more of them than a report may have, all series cut alike."""

from app.spec.report import MOST_POINTS
from worker.engine.report_bars import layer_bars


def test_too_many_layers_are_cut() -> None:
    names = [f"layer{number}" for number in range(MOST_POINTS + 5)]
    values = [float(number) for number in range(MOST_POINTS + 5)]

    chart = layer_bars("Width", "channels", names, {"before": values, "after": [None, *values[1:]]})

    assert (chart.kind, chart.x_label, chart.y_label) == ("bars", "layer", "channels")
    assert chart.x == tuple(names[:MOST_POINTS])
    assert [one.name for one in chart.series] == ["before", "after"]
    assert chart.series[1].values == (None, *values[1:MOST_POINTS])
