"""Packages of the extra `bench`: a loud skip where they are not installed, a failure in CI, which installs them."""

import os
from importlib.util import find_spec

import pytest


def require_bench(package: str) -> None:
    """Skip the test, or the module that calls this before its imports, unless the package is there."""
    if find_spec(package) is not None:
        return
    message = f"{package} is not installed: make setup-bench"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"MISSING {message}", pytrace=False)
    pytest.skip(f"SKIPPED bench: {message}", allow_module_level=True)
