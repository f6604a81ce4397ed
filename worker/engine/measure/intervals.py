"""How far a figure may be off: intervals of 95 %."""

import math
from collections.abc import Callable

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
FEW_PAIRS = 10
"""Below this a bootstrap knows too little; the whole range of the pairs' ratios is reported instead. It holds their
median in 1 - 2 * 0.5^n of all cases (the sign test's interval): 96.9 % for the six pairs that are always measured."""
SESSION_NOISE = 0.02
"""Two sessions of one file lie differently in memory and differ for as long as they live, which resampling their
runs cannot show. Eight pairs differed by 0.5 % at most; 2 % leaves room for larger models."""
ELEMENTS_AT_ONCE = 1 << 20
NORMAL_QUANTILE = 1.959963984540054
"""The quantile of the normal distribution below which 97.5 % lie."""
CONTINUITY = 0.5
"""Rows; counts are whole numbers, the score test treats them as continuous."""
BISECTIONS = 50


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


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of independent values `[n]`, by Student's t.

    One value has no spread: its mean may be anything, `(-inf, inf)`.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    mean = float(values.mean())
    margin = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - margin, mean + margin


def effective_rows(total: float, squares: float, rows: int, answers: int) -> float:
    """How many independent answers `rows` rows are worth, each with the same number of answers that depend on another.

    `total` and `squares` are the sums of the rows' shares and of their squares. The design effect of clusters (Kish,
    Survey Sampling, 1965): p (1 - p) over the variance of the rows' shares; `rows` where these show none.
    """
    mean = total / rows
    variance = (squares - rows * mean * mean) / (rows - 1) if rows > 1 else 0.0
    if variance <= 0 or not 0 < mean < 1:
        return float(rows)
    return float(min(max(rows, rows * mean * (1 - mean) / variance), max(rows, answers)))


def share_interval(share: float, count: float) -> tuple[float, float]:
    """95 % interval of a share of `count` independent answers: Wilson's score interval (JASA 22, 1927)."""
    square = NORMAL_QUANTILE**2
    middle = share + square / (2 * count)
    margin = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, (middle - margin) / (1 + square / count)), min(1.0, (middle + margin) / (1 + square / count))


def count_to_tell(share: float, bound: float) -> float:
    """How many independent answers of this share exclude `bound` from its score interval; infinite at the bound."""
    if share == bound:
        return math.inf
    return NORMAL_QUANTILE**2 * bound * (1 - bound) / (share - bound) ** 2


def ratio_margin(ratio: float, squares: tuple[float, float, float], total: float, rows: int) -> float:
    """How far the 95 % interval of the ratio of two sums over rows reaches to either side of it; infinite for one row.

    `squares` are the sums of squares of the numerator, of the denominator, and of their product, `total` the sum of
    the denominator (the ratio estimator; Cochran, Sampling Techniques, 1977, 6.3).
    """
    if rows < 2 or total <= 0:
        return math.inf
    above, below, both = squares
    spread = max(0.0, above - 2 * ratio * both + ratio * ratio * below) / (rows - 1)
    return t_quantile(rows - 1) * math.sqrt(rows * spread) / total


def paired_bootstrap(count: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % interval of a statistic of `count` rows, which it is given by their places, int64 `[count]`.

    The percentile bootstrap (Efron, Annals of Statistics 7, 1979). A statistic of two models is paired by taking both
    on the same rows. One row has no spread: `(-inf, inf)`.
    """
    if count < 2:
        return -math.inf, math.inf
    rng = np.random.default_rng(0)
    return interval(np.array([statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)]))


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t for 1, 2, ... degrees of freedom, within 0.3 %.

    Closed forms for one and two; from three on the expansion in 1/freedom about the normal quantile
    (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5).
    """
    upper = (1 + CONFIDENCE) / 2
    if freedom == 1:
        return math.tan(math.pi * (upper - 0.5))
    if freedom == 2:  # the other closed form
        return (2 * upper - 1) * math.sqrt(1 / (2 * upper * (1 - upper)))
    z = NORMAL_QUANTILE
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def drop_interval(lost: int, gained: int, rows: int) -> tuple[float, float]:
    """95 % interval of the share of rows lost, from how many rows turned wrong and how many turned right.

    The score interval of a difference of paired proportions (Tango, Statistics in Medicine 17, 1998), with a
    continuity correction of half a row for few rows. It excludes zero only where the exact test does too
    (`flip_probability`), so no difference is claimed that chance alone makes more often than 5 times in 100.
    """
    low, high = -_highest_drop(gained, lost, rows), _highest_drop(lost, gained, rows)
    if flip_probability(lost, gained) > 1 - CONFIDENCE:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def flip_probability(lost: int, gained: int) -> float:
    """How often chance alone splits `lost + gained` changed rows this unevenly, either way.

    The exact two-sided binomial form of McNemar's test (Psychometrika 12, 1947).
    """
    changed = lost + gained
    if lost == gained:
        return 1.0
    logs = [
        math.lgamma(changed + 1) - math.lgamma(count + 1) - math.lgamma(changed - count + 1) - changed * math.log(2)
        for count in range(max(lost, gained), changed + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def _highest_drop(lost: int, gained: int, rows: int) -> float:
    """The largest true drop that the score test does not reject, by bisection."""
    low, high = (lost - gained) / rows, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _plausible(middle, lost, gained, rows):
            low = middle
        else:
            high = middle
    return high


def _plausible(drop: float, lost: int, gained: int, rows: int) -> bool:
    """Tango's score test of a true `drop`; the share of rows gained is its maximum likelihood estimate."""
    linear = (2 * rows - lost + gained) * drop - lost - gained
    constant = -gained * drop * (1 - drop)
    share_gained = (math.sqrt(max(0.0, linear**2 - 8 * rows * constant)) - linear) / (4 * rows)
    variance = rows * (2 * share_gained + drop * (1 - drop))
    distance = max(0.0, abs(lost - gained - rows * drop) - CONTINUITY)
    return distance**2 <= NORMAL_QUANTILE**2 * variance
