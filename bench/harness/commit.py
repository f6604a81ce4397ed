"""Which code was measured."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The short name of the commit that was measured, with a plus sign if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
