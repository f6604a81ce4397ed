"""What the agent shares with the workers is one file, which its package takes a copy of when it is built."""

from pathlib import Path

import pare_agent
import pytest

from worker.runtime.jail import landlock, libc
from worker.toolchains import turns

AGENT = Path(pare_agent.__file__).parent


@pytest.mark.parametrize("module", [landlock, libc, turns], ids=lambda module: module.__name__)
def test_a_shared_module_is_a_link_to_the_workers(module) -> None:
    theirs = Path(module.__file__)
    ours = AGENT / theirs.name

    assert ours.is_symlink()
    assert ours.samefile(theirs)


def test_nothing_else_of_the_agent_is_a_link() -> None:
    links = {path.name for path in AGENT.iterdir() if path.is_symlink()}

    assert links == {"landlock.py", "libc.py", "turns.py"}
