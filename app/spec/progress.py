"""How far a job is: one shape from the engine's reporter to the row, its events and what clients are shown."""

from pydantic import Field

from app.spec.base import Frozen

MAX_STAGE = 200
MAX_MESSAGE = 500


class JobProgress(Frozen):
    """`fraction` (0 to 1) of stage `stage` is done, which is number `step` (from 1) of `steps`."""

    stage: str = Field("", max_length=MAX_STAGE)
    step: int = Field(0, ge=0, le=10_000)
    steps: int = Field(0, ge=0, le=10_000)
    fraction: float = Field(0.0, ge=0, le=1)
    message: str = Field("", max_length=MAX_MESSAGE)

    @property
    def overall(self) -> float:
        """The share of the whole job that is done, 0 to 1, every stage counted alike."""
        if self.steps == 0:
            return 0.0
        return min(1.0, max(0.0, (self.step - 1 + self.fraction) / self.steps))
