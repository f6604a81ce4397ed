"""Intervals: as wide as the noise, and no narrower when the noise is slow."""

import math
from collections import Counter

import numpy as np
import pytest

from worker.engine.measure.intervals import (
    SESSION_NOISE,
    block_length,
    drop_interval,
    flip_probability,
    mean_interval,
    paired_bootstrap,
    ratio_of_medians,
    t_quantile,
)
from worker.toolchains.turns import FEWEST_TURNS


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


@pytest.mark.parametrize("pairs", [FEWEST_TURNS, 9])
def test_the_fewest_pairs_hold_the_true_ratio(pairs: int) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        before, after = np.exp(0.3 * rng.standard_normal((2, pairs)))
        _, low, high = ratio_of_medians(before, after, rng)
        held += low <= 1.0 <= high

    assert held >= 0.95 * 2000


@pytest.mark.parametrize("rows", [4, 10, 50, 600])
@pytest.mark.parametrize("changed", [0.0, 0.01, 0.1, 0.4, 0.95])
@pytest.mark.parametrize("share_lost", [0.5, 0.75, 1.0])
def test_the_interval_holds_the_true_drop(rows: int, changed: float, share_lost: float) -> None:
    lost, gained = changed * share_lost, changed * (1 - share_lost)
    draws = np.random.default_rng(6).multinomial(rows, [lost, gained, 1 - changed], size=1500)
    counts = Counter((int(was), int(now)) for was, now, _ in draws)

    held = 0
    for (was, now), times in counts.items():
        low, high = drop_interval(was, now, rows)
        held += times * (low <= lost - gained + 1e-12 and lost - gained - 1e-12 <= high)

    assert held >= 0.93 * 1500


def test_a_drop_is_claimed_exactly_where_the_exact_test_claims_it() -> None:
    for changed in range(60):
        for lost in range(changed + 1):
            tail = sum(math.comb(changed, k) for k in range(max(lost, changed - lost), changed + 1))
            probability = min(1.0, 2 * tail / 2**changed)
            low, high = drop_interval(lost, changed - lost, 600)
            assert (low > 0 or high < 0) == (probability <= 0.05), (lost, changed)
            assert low <= (2 * lost - changed) / 600 <= high
            assert flip_probability(lost, changed - lost) == pytest.approx(probability)


@pytest.mark.parametrize(("lost", "rows"), [(1, 1), (4, 598), (5, 5), (5, 10_000)])
def test_a_few_flips_are_no_loss(lost: int, rows: int) -> None:
    low, high = drop_interval(lost, 0, rows)

    assert low <= 0 < lost / rows <= high
    assert drop_interval(0, lost, rows) == (-high, -low)


def test_no_flip_leaves_room_for_a_difference() -> None:
    low, high = drop_interval(0, 0, 598)

    assert high == -low
    assert 3 / 598 < high < 5 / 598, "the rule of three: about 3/n may go unseen"
    assert drop_interval(0, 0, 10)[1] > 0.25


def test_t_quantiles_against_the_table() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045, 10_000: 1.960}

    for freedom, quantile in table.items():
        assert t_quantile(freedom) == pytest.approx(quantile, rel=2e-3)


@pytest.mark.parametrize("count", [2, 4, 30])
def test_few_values_rarely_claim_a_difference_that_is_not_there(count: int) -> None:
    rng = np.random.default_rng(7)
    claimed = 0
    for _ in range(2000):
        low, high = mean_interval(rng.standard_normal(count))
        claimed += not low <= 0 <= high

    assert 0.03 * 2000 < claimed < 0.07 * 2000


def test_one_value_has_no_interval() -> None:
    assert mean_interval(np.array([3.0])) == (-math.inf, math.inf)


def test_mean_interval_of_many_values() -> None:
    values = np.random.default_rng(6).normal(5, 1, 250_003)

    low, high = mean_interval(values)

    assert low < 5.0 < high
    assert high - low == pytest.approx(2 * 1.96 / 250_003**0.5, rel=0.02)


def test_the_bootstrap_of_a_mean_agrees_with_students_t() -> None:
    values = np.random.default_rng(2).standard_normal(400)

    found = paired_bootstrap(len(values), lambda rows: float(values[rows].mean()))

    assert found == pytest.approx(mean_interval(values), abs=0.01)
    assert paired_bootstrap(1, lambda _: 0.0) == (-math.inf, math.inf)
