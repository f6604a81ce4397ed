import pytest

from bench.harness.figures import Figure, at_least, at_most, written


def test_a_bound_is_kept_on_its_own_side_and_at_its_edge() -> None:
    assert Figure("speed-up", 2.5, "x", at_least(2.5)).met
    assert not Figure("speed-up", 2.49, "x", at_least(2.5)).met
    assert Figure("size", 0.30, "", at_most(0.30)).met
    assert not Figure("size", 0.31, "", at_most(0.30)).met


def test_what_could_not_be_measured_meets_no_bound() -> None:
    assert not Figure("speed-up", float("nan"), "x", at_least(2.5)).met
    assert not Figure("size", float("nan"), "", at_most(0.3)).met


def test_what_nothing_is_required_of_is_met() -> None:
    assert Figure("size", 7.0).met
    assert Figure("size", 7.0).requirement == ""


def test_repetitions_become_a_mean_and_a_range() -> None:
    figure = Figure.mean_of("top-1", [99.0, 99.5, 98.8], "%")

    assert figure.value == pytest.approx(99.1)
    assert figure.spread == "98.8 to 99.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (53, "53"),
        (2_147_483_648, "2,147,483,648"),
        (0.2574, "0.257"),
        (2.0, "2"),
        (3.456, "3.46"),
        (123.4, "123"),
        (999.7, "1,000"),
        (15_230.4, "15,230"),
        (0.0, "0"),
        (0.00012, "1.2e-04"),
        (-2.5, "-2.5"),
    ],
)
def test_values_are_written_without_false_precision(value: float, text: str) -> None:
    assert written(value) == text
