"""The main loop of a toolchain's process: does the tasks that appear in its folder, until there is one named `end`.

Started as `python -I serve.py NAME` in the environment of toolchain NAME, in a folder that it shares with the engine.
A task is `request-<n>.json`, `{"task": …, "arguments": {…}}`; its answer is `answer-<n>.json`, `{"result": …}` or
`{"error": {"code", "detail"}}`. Files of a task have names in its arguments, relative to the folder. On file
descriptor 3, where it is open, the process says how it ended, as every job's process does.
"""

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

PARENT_FD = 3
POLL_S = 0.005
MOST_LINES = 40


class Unsuitable(Exception):  # says what the model is, not what went wrong here
    """The toolchain works, and cannot do this with this model. `code` is one of the engine's documented codes."""

    def __init__(self, detail: str, code: str = "toolchain.unsupported") -> None:
        """`detail` tells which part of the model, and why."""
        super().__init__(detail)
        self.code = code


def main(name: str) -> None:
    """Serve the toolchain `name` until told to end."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    toolchain = importlib.import_module(f"toolchains.{name}")
    number = 0
    while True:
        request = next_request(number)
        if request["task"] == "end":
            return
        write(f"answer-{number}.json", answer(toolchain, request))
        number += 1


def next_request(number: int) -> dict[str, Any]:
    """Wait for it. The engine renames it into place, so it is whole when it is there."""
    path = Path(f"request-{number}.json")
    while not path.exists():
        time.sleep(POLL_S)
    request: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return request


def answer(toolchain: ModuleType, request: dict[str, Any]) -> dict[str, Any]:
    """Do the task; what it raises becomes the answer."""
    try:
        return {"result": getattr(toolchain, request["task"])(**request["arguments"])}
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # converters raise whatever they like; the engine gives it a code
        traceback.print_exc()
        code = getattr(error, "code", None)
        known = isinstance(code, str) and type(error).__name__ == "Unsuitable"
        return {"error": {"code": code if known else "toolchain.failed", "detail": described(error)}}


def described(error: Exception) -> str:
    """The error in one paragraph: converters put whole graphs into their messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:MOST_LINES])}"[:1500]


def write(name: str, content: dict[str, Any]) -> None:
    """Write JSON under another name first, so that whoever waits for it never sees half of it."""
    part = Path(f"{name}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(name)


def say(message: dict[str, Any]) -> None:
    """One line to the parent; where nobody listens, nothing."""
    with contextlib.suppress(OSError):
        os.write(PARENT_FD, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
    say({"kind": "done"})
