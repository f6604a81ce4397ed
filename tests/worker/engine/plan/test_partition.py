"""The best partition is the best of all there are."""

from itertools import combinations

import numpy as np
import pytest

from worker.engine.plan.partition import Sums, best_edges


def of_all(seen: Sums, clusters: int) -> float:
    """The least error, by trying every partition."""
    bins = len(seen.counts) - 1
    tried = np.array([(0, *inner, bins) for inner in combinations(range(1, bins), clusters - 1)])
    return float(seen.error(tried[:, :-1], tried[:, 1:]).sum(axis=1).min())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clusters", [1, 2, 3, 5])
@pytest.mark.parametrize("bins", [5, 8, 15, 17])
def test_no_other_partition_has_less_error(bins: int, clusters: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    counts, places = random.integers(1, 20, bins).astype(float), np.sort(random.laplace(size=bins))
    seen = Sums.of(counts, counts * places, counts * places**2)

    edges = best_edges(seen, clusters)

    assert edges[0] == 0
    assert edges[-1] == bins
    assert (np.diff(edges) > 0).all()
    assert seen.error(edges[:-1], edges[1:]).sum() == pytest.approx(of_all(seen, clusters), rel=1e-9, abs=1e-9)
