"""Swift's own virtual environment, built once below `.tools` and kept: its pins would fight with the project's."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.root import ROOT
from tests.support.stack.missing import ServerMissing
from tests.support.stack.process import clean_environment

REQUIREMENTS = Path(__file__).with_name("swift-requirements.txt")
TOOLS = ROOT / ".tools"
BUILD_SECONDS = 280
"""Less than a test's own limit, so that a hanging index is named as the cause."""


def swift_programs(tools: Path = TOOLS) -> Path:
    """Return the folder of Swift's programs, built on the first call. Raises ServerMissing."""
    venv = tools / "swift"
    stamp = venv / "complete"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    with _alone(tools):
        if not (stamp.is_file() and stamp.read_text() == wanted):
            shutil.rmtree(venv, ignore_errors=True)
            _run([sys.executable, "-m", "venv", venv])
            _run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS])
            stamp.write_text(wanted)
    return venv / "bin"


@contextmanager
def _alone(tools: Path) -> Iterator[None]:
    """Let one test run build at a time; the lock ends with the process."""
    tools.mkdir(exist_ok=True)
    with (tools / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str | Path]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS, env=clean_environment()
        )
    except subprocess.CalledProcessError as failed:
        said = (failed.stderr or failed.stdout).strip()[-1500:]
        raise ServerMissing(f"Swift (S3) could not be installed; it needs python3-venv and PyPI: {said}") from failed
    except subprocess.TimeoutExpired as late:
        raise ServerMissing(f"Swift (S3) could not be installed within {BUILD_SECONDS} seconds") from late


if __name__ == "__main__":
    swift_programs()
