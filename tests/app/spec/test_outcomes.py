"""The noise decides, in one place: what no interval excludes is neither gained nor lost."""

import pytest

from app.spec.figures import MetricChange
from app.spec.outcome import outcome_of
from app.spec.report import NOTICEABLE_GROWTH_BYTES, Size
from tests.support.reports import latency


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.01, 0.2, "gain"), (-0.2, -0.01, "loss"), (-0.1, 0.1, "noise"), (0.0, 0.1, "noise"), (-0.1, 0.0, "noise")],
)
def test_zero_within_the_interval_is_noise(low: float, high: float, outcome: str) -> None:
    assert outcome_of(low, high) == outcome


@pytest.mark.parametrize(("low", "high", "outcome"), [(1.01, 3, "gain"), (0.5, 0.99, "loss"), (1.0, 1.2, "noise")])
def test_a_speedup_is_counted_from_one(low: float, high: float, outcome: str) -> None:
    change = latency().model_copy(update={"speedup_low": low, "speedup_high": high})

    assert change.outcome == outcome


@pytest.mark.parametrize(("low", "high", "outcome"), [(0.01, 0.1, "loss"), (-0.1, -0.01, "gain"), (-0.1, 0.1, "noise")])
def test_a_drop_is_a_loss(low: float, high: float, outcome: str) -> None:
    change = MetricChange(metric="top1", before=0.9, after=0.8, rows=100, drop=0.1, drop_low=low, drop_high=high)

    assert change.outcome == outcome


@pytest.mark.parametrize(
    ("before", "after", "outcome", "equal"),
    [
        (1000, 980, "gain", False),
        (1000, 995, "noise", True),
        (1000, 1900, "noise", False),  # bytes that metadata explains
        (10 * NOTICEABLE_GROWTH_BYTES, 12 * NOTICEABLE_GROWTH_BYTES, "loss", False),
    ],
)
def test_metadata_is_the_noise_of_a_size(before: int, after: int, outcome: str, *, equal: bool) -> None:
    size = Size(before_bytes=before, after_bytes=after)

    assert (size.outcome, size.called_equal) == (outcome, equal)
