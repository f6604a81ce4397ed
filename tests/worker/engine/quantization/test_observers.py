"""Ranges against numpy's own percentiles and a plain reading of the entropy search."""

import numpy as np
import pytest

from worker.engine.plan.plan import Range
from worker.engine.quantization.entropy import CODES, ENTROPY_BINS, divergence, entropy_clip, magnitudes, most_telling
from worker.engine.quantization.observers import least_squares, percentile
from worker.engine.quantization.statistics.extremes import Extremes
from worker.engine.quantization.statistics.histogram import BINS, Histogram, StreamedHistogram
from worker.engine.quantization.statistics.point import Observation

RANDOM = np.random.default_rng(0)
TENSORS = {
    "normal": RANDOM.standard_normal(200_000).astype(np.float32),
    "shifted": (RANDOM.standard_normal(200_000) + 2).astype(np.float32),
    "relu": np.maximum(RANDOM.standard_normal(200_000), 0).astype(np.float32),
    "heavy tails": RANDOM.standard_t(3, 200_000).astype(np.float32),
    "one outlier": np.append(RANDOM.standard_normal(200_000), 500).astype(np.float32),
}


def observation(batch: np.ndarray) -> Observation:
    """What the collector hands over of one batch."""
    return Observation("tensor", len(batch), (batch.min(), batch.max()), batch)


def streamed(values: np.ndarray) -> StreamedHistogram:
    histogram = StreamedHistogram()
    for batch in np.array_split(values, 7):
        histogram.update(observation(batch))
    return histogram


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = streamed(values).finished()
    assert histogram is not None
    return histogram


def extremes_of(values: np.ndarray) -> Range:
    extremes = Extremes()
    for batch in np.array_split(values, 7):
        extremes.update(observation(batch))
    return extremes.range()


def test_extremes_hold_everything_and_zero() -> None:
    assert extremes_of(np.array([3.0, 5, 4, 9, 3, 3, 7])) == Range(0, 9)
    assert extremes_of(np.array([-3.0, -5, -4, -9, -3, -3, -7])) == Range(-9, 0)
    assert extremes_of(np.array([-3.0, 1, 2, 3, 4, 5, 6])) == Range(-3, 6)


def test_a_moving_average_forgets_slowly_and_counts_its_first_batch_once() -> None:
    extremes = Extremes()
    extremes.add(-1, 10)
    assert extremes.moving_average() == Range(-1, 10)
    extremes.add(-3, 20)
    average = extremes.moving_average()
    assert (average.low, average.high) == pytest.approx(((0.9 * -1 - 3) / 1.9, (0.9 * 10 + 20) / 1.9))
    assert extremes.range() == Range(-3, 20)


def test_a_moving_average_is_not_moved_far_by_one_outlier() -> None:
    extremes = Extremes()
    for batch in range(32):
        extremes.add(0.5, 500 if batch == 16 else 4)
    assert extremes.moving_average().low == 0
    assert 4 < extremes.moving_average().high < 20
    assert extremes.range().high == 500


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("share", [99.0, 99.9, 99.99])
def test_percentile_is_numpys(name: str, share: float) -> None:
    values = TENSORS[name]

    found = percentile(histogram_of(values), share, extremes_of(values))

    bin_width = 2 * np.abs(values).max() / BINS
    beyond = (100 - share) / 200

    def in_bin_of(edge: float) -> float:
        return np.mean(np.abs(values - edge) <= bin_width) + 1 / len(values)

    assert np.mean(values > found.high) == pytest.approx(beyond, abs=in_bin_of(found.high))
    if np.percentile(values, 100 * beyond) < -bin_width:
        assert np.mean(values < found.low) == pytest.approx(beyond, abs=in_bin_of(found.low))
    else:
        assert found.low >= -bin_width


def test_percentile_of_a_dense_tensor_is_numpys_to_a_few_bins() -> None:
    values = TENSORS["normal"]
    found = percentile(histogram_of(values), 99, extremes_of(values))
    assert (found.low, found.high) == pytest.approx(np.percentile(values, [0.5, 99.5]), abs=4 * 2 * 5 / BINS)


def test_every_value_is_counted_once() -> None:
    values = TENSORS["shifted"]
    histogram = histogram_of(values)

    assert histogram.counts.sum() == len(values)
    expected, _ = np.histogram(values, BINS, (-histogram.magnitude, histogram.magnitude))
    moved = np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).sum() / len(values)
    assert moved < 0.1, "bins from its own, on average: the bins it was first counted in have other edges"


def test_the_whole_share_is_the_extremes() -> None:
    values = TENSORS["heavy tails"]
    assert percentile(histogram_of(values), 100, extremes_of(values)) == extremes_of(values)


@pytest.mark.parametrize("observer", ["percentile", "entropy"])
def test_an_outlier_is_clipped(observer: str) -> None:
    values = TENSORS["one outlier"]
    histogram, extremes = histogram_of(values), extremes_of(values)

    found = percentile(histogram, 99.99, extremes) if observer == "percentile" else most_telling(histogram, extremes)

    assert extremes.high == 500
    assert 2 < found.high < 80


def reconstruction_error(values: np.ndarray, used: Range) -> float:
    """Mean squared error of the asymmetric 8-bit form, its zero-point rounded as the runtime does."""
    scale = (used.high - used.low) / 255
    zero = np.round(-used.low / scale)
    codes = np.clip(np.round(values / scale) + zero, 0, 255)
    return float(np.square((codes - zero) * scale - values).mean())


WIDE = RANDOM.standard_normal(200_000).astype(np.float32) * 2
SKEWED = {
    "leaky relu": np.where(WIDE > 0, WIDE, np.float32(0.01) * WIDE),
    "silu": WIDE / (1 + np.exp(-WIDE)),
    "negated leaky relu": -np.where(WIDE > 0, WIDE, np.float32(0.01) * WIDE),
    **TENSORS,
}


@pytest.mark.parametrize("name", [name for name in SKEWED if name not in ("one outlier", "heavy tails")])
def test_entropy_reconstructs_as_well_as_the_extremes(name: str) -> None:
    values = SKEWED[name]
    extremes = extremes_of(values)
    found = most_telling(histogram_of(values), extremes)
    assert reconstruction_error(values, found) <= 1.1 * reconstruction_error(values, extremes)


@pytest.mark.parametrize("name", ["leaky relu", "silu", "normal", "relu"])
@pytest.mark.parametrize("sign", [1, -1])
def test_entropy_clips_an_outlier_of_any_activation(name: str, sign: int) -> None:
    values = sign * np.append(SKEWED[name], np.float32(500))
    extremes = extremes_of(values)

    found = most_telling(histogram_of(values), extremes)

    assert 8 < max(found.high, -found.low) < 40
    assert reconstruction_error(values[:-1], found) < 0.02 * reconstruction_error(values[:-1], extremes)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", [name for name in SKEWED if name != "heavy tails"])
def test_no_other_clips_have_much_less_squared_error(name: str, sign: int) -> None:
    values = sign * SKEWED[name]
    extremes = extremes_of(values)

    found = least_squares(histogram_of(values), extremes, CODES)

    shares = np.append(np.geomspace(1, 1 / 256, 24), 0)
    tried = [
        reconstruction_error(values, Range(extremes.low * low, extremes.high * high))
        for low in (shares if extremes.low else [0])
        for high in (shares if extremes.high else [0])
        if extremes.low * low < extremes.high * high
    ]
    assert reconstruction_error(values, found) <= 1.08 * min(tried)
    assert extremes.low <= found.low <= 0 <= found.high <= extremes.high


def test_least_error_clips_what_heavy_tails_cost() -> None:
    values = TENSORS["heavy tails"]
    extremes = extremes_of(values)
    found = least_squares(histogram_of(values), extremes, CODES)
    assert reconstruction_error(values, found) < 0.75 * reconstruction_error(values, extremes)


def test_entropy_shares_out_the_codes_by_length() -> None:
    """A symmetric tensor has half of the codes on either side, so its search sees coarser codes than a ReLU's."""
    values = RANDOM.laplace(size=400_000).astype(np.float32)
    values = np.concatenate([values, -values])
    both, one = histogram_of(values), histogram_of(np.abs(values))
    assert np.abs(magnitudes(both) - magnitudes(one)).sum() < 0.01 * len(values)

    symmetric, positive = most_telling(both, extremes_of(values)), most_telling(one, extremes_of(np.abs(values)))

    assert symmetric.high == pytest.approx(-symmetric.low)
    width = both.magnitude / ENTROPY_BINS
    assert symmetric.high == pytest.approx(width * entropy_clip(magnitudes(both), 128))
    assert positive.high == pytest.approx(width * entropy_clip(magnitudes(one), 255))
    assert symmetric.high != pytest.approx(positive.high, rel=0.01)


def test_zeros_do_not_decide_the_entropy_search() -> None:
    """Nine tenths of a sparse ReLU's output are zero. They have a code of their own, whatever the threshold."""
    counts = (1e4 * np.exp(-np.arange(2048) / 150)).astype(np.int64)
    sparse = counts.copy()
    sparse[0] = 9 * counts.sum()
    assert entropy_clip(sparse, 255) == entropy_clip(counts, 255) < 2048


def plain_divergence(counts: np.ndarray, keep: int, levels: int) -> float:
    """The same, read off the published description bin by bin."""
    p = [float(count) for count in counts[:keep]]
    p[-1] += float(counts[keep:].sum())
    q = [0.0] * keep
    for level in range(levels):
        members = [place for place in range(keep) if place * levels // keep == level]
        filled = [place for place in members if counts[place] > 0]
        for place in filled:
            q[place] = sum(float(counts[member]) for member in members) / len(filled)
    total_p, total_q = sum(p), sum(q)
    return sum(
        (one / total_p) * np.log((one / total_p) / max(other / total_q, 1e-10))
        for one, other in zip(p, q, strict=True)
        if one > 0
    )


def test_divergence_is_the_published_one() -> None:
    counts = RANDOM.poisson(np.exp(-np.arange(300) / 40) * 50).astype(np.float64)
    for keep in (40, 100, 299, 300):
        assert divergence(counts, keep, 31) == pytest.approx(plain_divergence(counts, keep, 31), rel=1e-9)


def test_entropy_keeps_a_uniform_distribution_whole() -> None:
    assert entropy_clip(np.full(2048, 100), 127) == 2048


def test_entropy_clips_a_thin_tail() -> None:
    counts = (1e5 * np.exp(-((np.arange(2048) / 200) ** 2) / 2)).astype(np.int64)
    counts[2047] = 1
    assert 400 < entropy_clip(counts, 127) < 1000


def test_a_histogram_stays_as_small_as_it_is() -> None:
    histogram = StreamedHistogram()
    sizes = set()
    for scale in (1, 3, 100, 1e6):
        histogram.update(observation(scale * TENSORS["normal"]))
        sizes.add(histogram._counts.nbytes)
    assert len(sizes) == 1
    assert histogram.finished().counts.sum() == 4 * 200_000


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("ascending", [True, False])
def test_whichever_batch_comes_first_the_counts_are_those_of_a_known_range(name: str, *, ascending: bool) -> None:
    """Sorted by magnitude the first batch knows next to nothing of the range, and it grows with every other."""
    values = TENSORS[name][np.argsort(np.abs(TENSORS[name]))]

    histogram = histogram_of(values if ascending else values[::-1])

    expected, edges = np.histogram(values, BINS, (-histogram.magnitude, histogram.magnitude))
    assert histogram.magnitude == np.abs(values).max()
    assert histogram.edges == pytest.approx(edges)
    ahead = np.cumsum(histogram.counts) - np.cumsum(expected)
    assert np.abs(ahead).max() <= 2 * expected.max(), "a value is at most one bin from its own"


@pytest.mark.parametrize("zeros_first", [True, False])
def test_zeros_keep_their_bin_whatever_comes(*, zeros_first: bool) -> None:
    """The searches leave the bin that begins at 0 out: zeros have a code of their own."""
    batches = [np.zeros(1000, np.float32), np.float32([-3, 0.1, 2]), np.float32([-50, 7])]
    histogram = StreamedHistogram()
    for batch in batches if zeros_first else batches[::-1]:
        histogram.update(observation(batch))
    assert histogram.finished().counts[BINS // 2] == 1000


def test_nothing_but_zeros_is_no_histogram() -> None:
    assert streamed(np.zeros(100, np.float32)).finished() is None
