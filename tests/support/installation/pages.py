"""What pages show is run as a reader would run it."""

import subprocess
from pathlib import Path

from tests.support.installation.service import environment

BASE_URL = "http://127.0.0.1:8000"
MINUTES = 5 * 60


def run(command: list[str], folder: Path) -> str:
    """Run a command of a page in the folder; what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment({}), capture_output=True, text=True, timeout=MINUTES, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
