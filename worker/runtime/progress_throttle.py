"""The one rule by which progress is thinned out, wherever it changes hands."""

import time
from collections.abc import Sequence
from typing import Final

from app.spec.progress import JobProgress

MAX_HELD: Final = 32
"""Stages; a job of 16 steps and 8 targets has some 50, which do not all begin between two looks."""


class ProgressThrottle:
    """Holds progress until somebody takes it: the newest of each stage, in order. Not for several threads.

    An engine reports every batch and a hostile child whatever it likes, while whoever reads it is a pipe, a database or
    a person. So within a stage only the newest counts, every stage is shown however short it was, and stages only go
    forward. Who is flooded with stages drops the oldest: each becomes a statement in one transaction.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        """`interval_s`: what `due` leaves between two of the same stage."""
        self._interval_s = interval_s
        self._held: list[JobProgress] = []
        self._step = 0
        self._shown_step = -1
        self._shown_at = 0.0

    def add(self, progress: JobProgress) -> None:
        """Hold `progress` in place of what is held of its stage; ignore it if a later stage has begun."""
        if progress.step < self._step:
            return
        self._step = progress.step
        if self._held and self._held[-1].step == progress.step:
            self._held.pop()
        self._held = [*self._held, progress][-MAX_HELD:]

    def due(self) -> list[JobProgress]:
        """Take what is held if a stage has begun, or the interval is over since something was taken."""
        is_new = self._step != self._shown_step
        return self.take() if is_new or time.monotonic() - self._shown_at >= self._interval_s else []

    def take(self) -> list[JobProgress]:
        """Take what is held, one for each stage."""
        held, self._held = self._held, []
        if held:
            self._shown_step, self._shown_at = self._step, time.monotonic()
        return held

    def put_back(self, taken: Sequence[JobProgress]) -> None:
        """Hold again what was taken and could not be shown; what has come since is newer."""
        later, self._held = self._held, []
        older = [progress for progress in taken if not later or progress.step < later[0].step]
        self._held = [*older, *later][-MAX_HELD:]
