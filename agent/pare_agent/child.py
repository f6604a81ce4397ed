"""The confined process: `python child.py`, in a folder with `request.json` and the task's files.

It writes `answer.json`, a measurement or an error, and ends. `request.json` names the agent's own import path: this
file is run by its place, since the environment variables that led there are not passed on.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

REQUEST, ANSWER, OUTPUTS = "request.json", "answer.json", "outputs.npz"
NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "can't allocate memory", "Cannot allocate memory")
"""How libraries word it that have no MemoryError."""
OUT_OF_MEMORY, FAILED = "agent.out_of_memory", "agent.failed"
LONGEST = 1000


def main() -> None:
    """Confine this process, then do the task."""
    request = json.loads(Path(REQUEST).read_text(encoding="utf-8"))
    sys.path[:] = request["path"]
    from pare_agent.confine import confine

    missing = confine(Path.cwd(), **request["limits"])
    try:
        from pare_agent.measure import measure

        answer = measure(request["order"], request["cores"], Path(OUTPUTS))
    except Exception as error:  # noqa: BLE001  # runtimes raise whatever they like
        answer = {"error": {"code": _code(error), "detail": _detail(error)}}
    write({**answer, "missing": missing})


def write(answer: dict[str, Any]) -> None:
    """Put the answer in place whole."""
    part = Path(f"{ANSWER}.part")
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(ANSWER)


def _code(error: Exception) -> str:
    no_memory = isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
    return OUT_OF_MEMORY if no_memory else FAILED


def _detail(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}".replace(os.getcwd() + os.sep, "")[:LONGEST]  # noqa: PTH109


if __name__ == "__main__":
    main()
