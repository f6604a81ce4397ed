"""`@pytest.mark.toolchain("litert")`: a test that needs a toolchain skips without it, loudly.

`PARE_TEST_TOOLCHAINS` names those that must be there, as in CI: without them the tests fail.
"""

import os
from pathlib import Path

import pytest

from app.spec.targets import ToolchainName
from tests.support.root import ROOT
from worker.engine.toolchains.environments import Environments

ENVIRONMENTS = Environments(Path(os.environ.get("PARE_TOOLCHAINS_DIR", ROOT / ".toolchains")))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for a test's toolchains before anything is made for it."""
    for mark in item.iter_markers("toolchain"):
        for name in mark.args:
            require(name)


def require(name: ToolchainName) -> None:
    """Skip the test unless the toolchain is installed; fail it where the toolchain must be."""
    if ENVIRONMENTS.installed(name):
        return
    message = f"toolchain {name} is not installed: python -m worker toolchains install {name}"
    if name in os.environ.get("PARE_TEST_TOOLCHAINS", "").split():
        pytest.fail(f"MISSING {message}", pytrace=False)
    pytest.skip(f"SKIPPED targets: {message}")
