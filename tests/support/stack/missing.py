"""What happens when a server cannot be had: a loud skip on a laptop, a failure in CI."""

import os
import shutil
from pathlib import Path

import pytest


class ServerMissing(Exception):
    """A server's program is not installed, or does not start; the message says which and what to do."""


def program(name: str, *, folders: list[Path], install: str) -> Path:
    """Return the program's path from PATH or one of the folders. Raises ServerMissing with the way to install it."""
    path = shutil.which(name) or next((str(f / name) for f in folders if os.access(f / name, os.X_OK)), None)
    if path is None:
        raise ServerMissing(f"{name} not found; install with {install}")
    return Path(path)


def skip_or_fail(reason: ServerMissing) -> None:
    """End the test: skipped, or failed where CI=true says that nothing may be left out."""
    message = f"SKIPPED real stack: {reason}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message.replace("SKIPPED", "MISSING"), pytrace=False)
    pytest.skip(message)
