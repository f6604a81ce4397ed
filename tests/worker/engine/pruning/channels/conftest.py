"""Networks with the same weights in every run, in whatever order the tests run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
