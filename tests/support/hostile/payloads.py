"""What the hostile files try to do: create a file, which tells that they were executed."""

from pathlib import Path
from typing import Any


class Call:
    """Pickles as a call of `function`: the classic `__reduce__`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


class Payloads:
    """Makes the code of payloads that leave a trace below `marks`."""

    def __init__(self, marks: Path) -> None:
        self._marks = marks

    def code(self, name: str) -> str:
        """A Python expression that creates `marks/name`."""
        return f"__import__('pathlib').Path({str(self._marks / name)!r}).touch()"

    def call(self, name: str) -> Call:
        """An object that runs `code(name)` when it is unpickled."""
        return Call(eval, self.code(name))
