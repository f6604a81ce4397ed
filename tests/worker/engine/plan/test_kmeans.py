"""Clusters of one-dimensional values are as good as k-means finds them, and keep what must be kept."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from worker.engine.plan.kmeans import cluster


def squared_error(values: np.ndarray, clusters: int) -> float:
    table, places = cluster(values, clusters)
    return float(np.square(table[places] - values, dtype=np.float64).mean())


@pytest.mark.parametrize(("clusters", "starts", "share"), [(16, 10, 1.0), (64, 1, 0.96)])
@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_the_error_is_less_than_that_of_sklearn(clusters: int, starts: int, share: float, kind: str) -> None:
    """Than its best of ten for few clusters; for many it is clearly less, since Lloyd's start decides there."""
    values = getattr(np.random.default_rng(0), kind)(scale=0.02, size=20_000).astype(np.float32)
    theirs = KMeans(clusters, n_init=starts, random_state=0).fit(values[:, None]).inertia_ / values.size
    assert squared_error(values, clusters) <= share * theirs


def test_every_value_has_its_nearest_centroid() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    table, places = cluster(values, 32)
    nearest = np.abs(values[:, None] - table).min(axis=1)
    assert (np.diff(table) > 0).all()
    assert (np.abs(values - table[places]) - nearest).max() < (values.max() - values.min()) / 5000


def test_few_values_are_kept_as_they_are() -> None:
    values = np.array([[1.5, -2.0], [1.5, 0.1]], np.float32)
    table, places = cluster(values, 4)
    np.testing.assert_array_equal(table[places], values)
    np.testing.assert_array_equal(cluster(np.full(9, 7, np.float32), 4)[0], np.full(4, 7))


def test_zeros_of_a_pruned_tensor_stay_zero() -> None:
    values = np.random.default_rng(0).normal(size=(64, 100)).astype(np.float32)
    values[np.abs(values) < 0.6] = 0
    table, places = cluster(values, 16)
    np.testing.assert_array_equal(table[places] == 0, values == 0)
    assert len(table) == 16


def test_an_outlier_does_not_take_the_resolution() -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    alone = squared_error(values, 16)
    values[0] = 1000
    table, places = cluster(values, 17)
    assert np.square(table[places] - values)[1:].mean() < 1.2 * alone


@pytest.mark.parametrize("outlier", [1e5, -1e5, 1e30, -3e38])
def test_an_outlier_does_not_ruin_the_others(outlier: float) -> None:
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    alone = squared_error(values, 15)
    values[7] = outlier
    table, places = cluster(values, 16)
    ordinary = np.delete(table[places] - values, 7)

    assert np.square(ordinary).mean() < 1.15 * alone
    assert table[places[7]] == np.float32(outlier)


def test_outliers_on_both_sides_share_what_is_left() -> None:
    values = np.random.default_rng(0).standard_t(1.2, size=50_000).astype(np.float32)
    table, places = cluster(values, 64)
    theirs = KMeans(64, n_init=1, random_state=0).fit(values[:, None]).inertia_ / values.size
    assert np.square(table[places] - values, dtype=np.float64).mean() <= 1.05 * theirs


@pytest.mark.parametrize("share", [0.01, 0.1, 0.24])
@pytest.mark.parametrize("clusters", [4, 16, 256])
def test_a_few_zeros_that_were_pruned_stay_zero(share: float, clusters: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(64, 100)).astype(np.float32)
    values[generator.random(values.shape) < share] = 0
    table, places = cluster(values, clusters)
    assert np.array_equal(table[places] == 0, values == 0)
