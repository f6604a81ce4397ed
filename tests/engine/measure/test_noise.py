"""Intervals: as wide as the noise, and no narrower when the noise is slow."""

import numpy as np
import pytest

from worker.engine.measure.noise import (
    SESSION_NOISE,
    block_length,
    drop_interval,
    mean_interval,
    ratio_of_medians,
)


def slow_noise(rng: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    """A first-order autoregressive series with unit variance."""
    values = np.empty(count)
    values[0] = rng.standard_normal()
    for index in range(1, count):
        values[index] = correlation * values[index - 1] + (1 - correlation**2) ** 0.5 * rng.standard_normal()
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_interval_holds_the_true_ratio(correlation: float) -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        before = 2.0 * np.exp(0.3 * slow_noise(rng, 200, correlation))
        after = 1.0 * np.exp(0.3 * slow_noise(rng, 200, correlation))
        ratio, low, high = ratio_of_medians(before, after, rng)
        held += low <= 2.0 <= high
        assert low < ratio < high

    assert held >= 52


def test_slow_noise_is_drawn_in_longer_blocks() -> None:
    rng = np.random.default_rng(2)

    assert block_length(slow_noise(rng, 400, 0.95)) > 3 * block_length(slow_noise(rng, 400, 0.0))
    assert block_length(np.ones(400)) == 7


def test_load_that_slows_both_cancels() -> None:
    rng = np.random.default_rng(3)
    load = np.exp(np.abs(slow_noise(rng, 200, 0.97)))

    ratio, low, high = ratio_of_medians(3.0 * load, load, rng)

    assert ratio == pytest.approx(3.0)
    assert high / low < 1.06


def test_a_tiny_difference_is_not_claimed_however_steady_the_runs() -> None:
    """Two sessions of one file differ by a little for as long as they live."""
    steady = np.linspace(0.999, 1.001, 500)

    _, low, high = ratio_of_medians(steady * (1 + SESSION_NOISE / 2), steady, np.random.default_rng(0))

    assert low < 1 < high


def test_few_pairs_give_their_whole_range() -> None:
    before, after = np.array([2.0, 4.0, 6.0]), np.array([1.0, 1.0, 2.0])

    ratio, low, high = ratio_of_medians(before, after, np.random.default_rng(0))

    assert ratio == 4.0
    assert low == pytest.approx(2.0 / (1 + SESSION_NOISE))
    assert high == pytest.approx(4.0 * (1 + SESSION_NOISE))


def test_many_pairs_do_not_need_much_memory() -> None:
    rng = np.random.default_rng(4)
    times = np.exp(0.1 * rng.standard_normal(10_000))

    _, low, high = ratio_of_medians(times, times[::-1].copy(), rng)

    assert low < 1 < high


def test_drop_interval_matches_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(5)
    lost, gained, rows = 30, 12, 450
    differences = np.repeat([1.0, -1.0, 0.0], [lost, gained, rows - lost - gained])

    low, high = drop_interval(lost, gained, rows, rng)
    plain = mean_interval(differences, rng)

    assert (low, high) == pytest.approx(plain, abs=0.006)
    assert low < 18 / 450 < high


def test_mean_interval_of_many_values() -> None:
    values = np.random.default_rng(6).normal(5, 1, 250_003)

    low, high = mean_interval(values, np.random.default_rng(0))

    assert low < 5.0 < high
    assert high - low == pytest.approx(2 * 1.96 / 250_003**0.5, rel=0.15)
