"""How the engine tells its caller where it is. The runtime streams it to the job's row."""

from typing import Literal, Protocol

LogLevel = Literal["info", "warning"]


class Progress(Protocol):
    """Receives the story of one job, in order. Calls are cheap: they may be made once per batch."""

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Begin stage number `step` (from 1) of `steps`; its fraction starts at 0."""

    def advance(self, fraction: float, message: str = "") -> None:
        """Say that `fraction` (0 to 1) of the present stage is done."""

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Add a line to the job's log."""

    def checkpoint(self, name: str) -> None:
        """Say that the file `name` in the job's folder of checkpoints is complete, or was dropped."""


class Unheard:
    """A progress nobody listens to."""

    def stage(self, name: str, *, step: int, steps: int) -> None:
        """Ignore it."""

    def advance(self, fraction: float, message: str = "") -> None:
        """Ignore it."""

    def log(self, message: str, level: LogLevel = "info") -> None:
        """Ignore it."""

    def checkpoint(self, name: str) -> None:
        """Ignore it."""
