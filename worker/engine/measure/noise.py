"""How far a figure may be off: bootstrap intervals of 95 %."""

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
FEW_PAIRS = 10
"""Below this a bootstrap knows too little; the whole range of the pairs' ratios is reported instead."""
SESSION_NOISE = 0.02
"""Two sessions of one file lie differently in memory and differ for as long as they live, which resampling their
runs cannot show. Eight pairs differed by 0.5 % at most; 2 % leaves room for larger models."""
ELEMENTS_AT_ONCE = 1 << 20
BOOTSTRAP_VALUES = 10_000
"""Longer series are averaged into this many groups first; the mean's spread is the same."""


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return float(low), float(high)


def ratio_of_medians(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """median(before) / median(after) and its 95 % interval, for times `[pairs]` taken in turns.

    A circular block bootstrap (Politis and Romano, 1992): pairs are drawn in runs as long as their ratios
    stay correlated, so that a load that comes and goes widens the interval. Both models' times are drawn
    together: what slows both cancels.
    """
    ratio = float(np.median(before) / np.median(after))
    if len(before) < FEW_PAIRS:
        ratios = before / after
        low, high = float(ratios.min()), float(ratios.max())
    else:
        low, high = interval(_resampled_ratios(before, after, rng))
    return ratio, min(low, ratio) / (1 + SESSION_NOISE), max(high, ratio) * (1 + SESSION_NOISE)


def block_length(series: np.ndarray) -> int:
    """Block length for a series `[n]`: twice the time its values stay correlated, from n^(1/3) to n/4."""
    count = len(series)
    centred = series - series.mean()
    power = float(centred @ centred)
    shortest, longest = max(1, round(count ** (1 / 3))), max(1, count // 4)
    correlation_time = 1.0
    for lag in range(1, longest):
        correlation = float(centred[:-lag] @ centred[lag:]) / power if power else 0.0
        if correlation < 2 / count**0.5:  # not distinguishable from none
            break
        correlation_time += 2 * correlation
    return int(min(max(shortest, round(2 * correlation_time)), longest))


def _resampled_ratios(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(before)
    length = block_length(np.log(before / after))
    blocks = -(-count // length)
    ratios = []
    at_once = max(1, ELEMENTS_AT_ONCE // count)
    for done in range(0, RESAMPLES, at_once):
        starts = rng.integers(0, count, (min(at_once, RESAMPLES - done), blocks, 1))
        drawn = ((starts + np.arange(length)) % count).reshape(len(starts), -1)[:, :count]
        ratios.append(np.median(before[drawn], axis=1) / np.median(after[drawn], axis=1))
    return np.concatenate(ratios)


def mean_interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean of independent values `[n]`."""
    if len(values) > BOOTSTRAP_VALUES:
        usable = len(values) // BOOTSTRAP_VALUES * BOOTSTRAP_VALUES
        values = values[:usable].reshape(BOOTSTRAP_VALUES, -1).mean(axis=1)
    count = len(values)
    at_once = max(1, ELEMENTS_AT_ONCE // count)
    means = [
        values[rng.integers(0, count, (min(at_once, RESAMPLES - done), count))].mean(axis=1)
        for done in range(0, RESAMPLES, at_once)
    ]
    return interval(np.concatenate(means))


def drop_interval(lost: int, gained: int, rows: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the share of rows lost, from how many rows turned wrong and how many turned right.

    The bootstrap of paired rows in closed form: resampling rows of three kinds is a multinomial draw.
    """
    same = rows - lost - gained
    drawn = rng.multinomial(rows, np.array([lost, same, gained]) / rows, size=RESAMPLES)
    return interval((drawn[:, 0] - drawn[:, 2]) / rows)
