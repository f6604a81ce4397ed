"""Settings every test process needs before a numeric library is imported."""

import os
from typing import Any

import pytest

from tests.support.distribution import scheduler

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

pytest_plugins = [
    "tests.support.stack",  # PostgreSQL, Redis and S3, started when a test asks for them
    "tests.support.toolchains",  # whether a test's toolchains are there
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`-n 2` shares the tests as tests/support/distribution.py says, unless another way is asked for by name."""
    return scheduler(config, log) if config.getoption("dist") == "load" else None
