"""How pytest-xdist shares the tests among its processes: file by file, the long ones first.

Tests that share an installation stay together, as starting one takes longer than most tests; so each installation, and
each server that a test stops and starts, belongs to one process.
"""

import re
from typing import Any, Final

import pytest

LONGEST_FIRST: Final = (
    "faults",
    "tests/worker/engine/devices/test_emulated.py",
    "e2e real",
    "tests/worker/engine/targets/",
    "e2e embedded",
    "tests/worker/engine/torch_program/test_keras.py",
    "tests/bench/",
    "tests/worker/engine/",
    "tests/worker/",
    "tests/",
)
"""Groups, or beginnings of files' names. What waits and what computes take turns, as two processes share the CPUs."""


def group_of(test: str) -> str:
    """Return the name of the tests that run in one process with this one, given its node id."""
    file, _, name = test.partition("::")
    if file.startswith("tests/faults/"):
        return "faults"
    stack = re.search(r"\[(embedded|real)\b", name) if file.startswith("tests/e2e/") else None
    return f"e2e {stack[1]}" if stack else file


def rank(group: str) -> int:
    """Return the place of a group in the order in which they begin."""
    return next(place for place, prefix in enumerate((*LONGEST_FIRST, "")) if group.startswith(prefix))


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what pytest-xdist asks for work; imported here, as runs in one process do without it."""
    from xdist.scheduler import LoadScopeScheduling

    class LongestFirst(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            self.workqueue.move_to_end(min(self.workqueue, key=rank), last=False)
            super()._assign_work_unit(node)

    return LongestFirst(config, log)
