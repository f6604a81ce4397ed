"""The proof of exactness tells infinities and NaN apart: none of them passes for another."""

import math

import pytest
import torch

from worker.engine.pruning.channels.exactness import apart

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(("before", "after"), [(NAN, INF), (INF, -INF), (NAN, 1.0), (1.0, -INF)])
def test_another_value_that_is_not_finite_is_infinitely_far(before: float, after: float) -> None:
    assert apart(torch.tensor([before, 2.0]), torch.tensor([after, 2.0])) == INF


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_same_value_that_is_not_finite_is_no_difference(value: float) -> None:
    assert apart(torch.tensor([value, 2.0]), torch.tensor([value, 2.0])) == 0.0
