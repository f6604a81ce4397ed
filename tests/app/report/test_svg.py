"""Geometry: nothing leaves the picture, whatever the figures are."""

import pytest

from app.report.svg import (
    LAYER_HEIGHT,
    latency_picture,
    layers_picture,
    severity,
    size_bars,
    weakest,
)
from app.spec.report import LayerError, Size
from tests.support.reports import latency, layers


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 29, 64, 199, 200, 1000])
def test_bars_lie_side_by_side_inside_the_picture(count: int) -> None:
    picture = layers_picture(layers(count))

    assert len(picture.bars) == count
    for left, right in zip(picture.bars, picture.bars[1:], strict=False):
        assert left.x + left.width <= right.x
    for bar in picture.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= 100.001
        assert bar.y >= 0
        assert bar.y + bar.height == pytest.approx(LAYER_HEIGHT)
    assert len(picture.ticks) <= 10
    gaps = [b.x - a.x for a, b in zip(picture.ticks, picture.ticks[1:], strict=False)]
    assert all(gap > 3 for gap in gaps), "labels would touch"


@pytest.mark.parametrize(
    ("decibels", "expected"),
    [
        (None, "equal"),
        (45.0, "clean"),
        (30.0, "clean"),
        (29.9, "fair"),
        (10.0, "weak"),
        (9.9, "poor"),
        (-300.0, "poor"),
    ],
)
def test_severity(decibels: float | None, expected: str) -> None:
    assert severity(LayerError(name="a", operator="Conv", sqnr_db=decibels)) == expected


def test_the_weakest_layers_come_worst_first() -> None:
    some = [LayerError(name=str(db), operator="Conv", sqnr_db=db) for db in (30.0, None, -2.0, 12.0)]

    assert [(position, layer.sqnr_db) for position, layer in weakest(tuple(some), 2)] == [(3, -2.0), (4, 12.0)]


@pytest.mark.parametrize("milliseconds", [0.0004, 0.02, 0.9, 1.0, 37.0, 999.0, 45_000.0])
@pytest.mark.parametrize("factor", [0.05, 1.0, 20.0])
def test_latency_fits_its_axis(milliseconds: float, factor: float) -> None:
    picture = latency_picture(latency(1, milliseconds, milliseconds * factor))

    for strip in (picture.before, picture.after):
        assert 0 < strip.p50 <= strip.p90 <= strip.p99 <= 100
        for band in strip.bands:
            assert band.x >= 0
            assert band.x + band.width <= 100.3
    assert 2 <= len(picture.ticks) <= 7
    assert picture.ticks[0].label == "0"
    assert len({tick.label.split(" ")[1] for tick in picture.ticks[1:]}) == 1, "one unit on one axis"


def test_latency_is_to_scale() -> None:
    change = latency(1, 2.0, 1.0)
    picture = latency_picture(change)

    assert picture.before.p50 / picture.after.p50 == pytest.approx(change.before.p50_ms / change.after.p50_ms, rel=1e-3)


def test_a_tiny_model_still_has_a_bar() -> None:
    before, after = size_bars(Size(before_bytes=10**9, after_bytes=10))

    assert before.width == 100
    assert 0 < after.width < 1
