"""Charts of steps: to scale, inside the picture, whatever the figures are."""

import itertools

import pytest
from pydantic import ValidationError

from app.report.charts import HEIGHT, picture
from app.report.markdown import render_markdown
from app.spec.report import Chart, Series, Table
from tests.support.reports import report, trained


def chart(values: tuple[float | None, ...], *, kind: str = "line", log: bool = False, x: tuple | None = None) -> Chart:
    return Chart(
        title="t",
        kind=kind,
        x_label="x",
        y_label="y",
        x=x or tuple(range(len(values))),
        log_y=log,
        series=(Series(name="one", values=values),),
    )


ODD = [(), (0.0,), (5.0, 5.0), (-3.0, 4.0, -1e-9), (1e-12, 1e12), (None, None), (0.1, None, 0.3), (1e9, 1e9 + 1)]


@pytest.mark.parametrize("axis", ["linear", "logarithmic"])
@pytest.mark.parametrize("kind", ["line", "bars"])
@pytest.mark.parametrize("values", ODD)
def test_everything_lies_inside_the_picture(values: tuple[float | None, ...], kind: str, axis: str) -> None:
    drawn = picture(chart(values, kind=kind, log=axis == "logarithmic"))

    present = sum(value is not None for value in values)
    dots = [dot for line in drawn.lines for dot in line.dots]
    assert len(dots if kind == "line" else drawn.bars) == present
    assert all(0 <= x <= 100 and 0 <= y <= HEIGHT for x, y, _ in dots)
    for bar in drawn.bars:
        assert 0 <= bar.span.x <= bar.span.x + bar.span.width <= 100.001
        assert 0 <= bar.y <= bar.y + bar.height <= HEIGHT + 1
    assert len(drawn.levels) <= 7
    assert all(0 <= level.y <= HEIGHT for level in drawn.levels)
    assert all(0 <= tick.x <= 100 for tick in drawn.ticks)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 40, 161, 1000])
def test_bars_of_several_series_stand_side_by_side(count: int) -> None:
    both = Chart(
        title="t",
        kind="bars",
        x_label="layer",
        y_label="channels",
        x=tuple(f"l{n}" for n in range(count)),
        series=tuple(Series(name=name, values=tuple(float(n + 1) for n in range(count))) for name in ("was", "is")),
    )
    drawn = picture(both)

    assert len(drawn.bars) == 2 * count
    for left, right in itertools.pairwise(drawn.bars):
        assert left.span.x + left.span.width <= right.span.x + 0.002
    assert len(drawn.ticks) <= 9


def test_heights_are_to_scale() -> None:
    quarter, whole = picture(chart((1.0, 4.0), kind="bars")).bars

    assert whole.height / quarter.height == pytest.approx(4, rel=0.02)


def test_a_logarithmic_axis_has_its_decades_evenly() -> None:
    levels = picture(chart((0.01, 0.1, 1.0, 10.0), log=True)).levels

    assert [level.label for level in levels] == ["0.01", "0.1", "1", "10"]
    steps = {round(a.y - b.y) for a, b in itertools.pairwise(levels)}
    assert max(steps) - min(steps) <= 1


def test_a_gap_breaks_the_line() -> None:
    (line,) = picture(chart((1.0, 2.0, None, 3.0, 4.0))).lines

    assert [len(run.split()) for run in line.runs] == [2, 2]


def test_numbers_are_placed_by_value_and_names_evenly() -> None:
    (by_value,) = picture(chart((1.0, 1.0, 1.0), x=(0.0, 1.0, 10.0))).lines
    (by_name,) = picture(chart((1.0, 1.0, 1.0), x=("a", "b", "c"))).lines

    assert [x for x, _, _ in by_value.dots] == [0, 10, 100]
    assert [x for x, _, _ in by_name.dots] == pytest.approx([16.667, 50, 83.333])


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="series one has 1 values for 2 places"):
        Chart(title="t", kind="line", x_label="x", y_label="y", x=(1, 2), series=(Series(name="one", values=(1.0,)),))
    with pytest.raises(ValidationError, match="another number of cells"):
        Table(title="t", columns=("a", "b"), rows=((1,),))


def test_markdown_has_the_values_of_charts_and_tables() -> None:
    text = render_markdown(report(steps=(trained(),)))

    assert "| layer1.3.conv1.weight | 36,864 | 0.64 | — |" in text
    assert "### Step 1: Loss" in text
    assert "| 1 | 2.3 | — |" in text
    assert "- Step 1: Zeros buy compressed size" in text
