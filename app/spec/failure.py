"""Why something that was asked for is not there: the one form in which rows, reports and messages keep an error."""

from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints

from app.errors import PareError
from app.spec.base import Frozen

MAX_DETAIL = 2000
MAX_REMEDY = 1000

TOOLCHAIN_MISSING: Final = "toolchain.missing"
"""The code of a target whose toolchain no worker has: the engine raises it, the service knows it before."""


class Failure(Frozen):
    """A documented code, what happened, what to do."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$", max_length=64)]
    detail: str = Field(max_length=MAX_DETAIL)
    remedy: str = Field(max_length=MAX_REMEDY)

    @property
    def explanation(self) -> str:
        """What happened and what to do, as one text."""
        return f"{self.detail} {self.remedy}"

    @classmethod
    def of(cls, error: PareError, **others: Any) -> Self:
        """The failure that `error` stands for, its texts cut to what fits; `others` are fields of a subclass."""
        return cls(code=error.code, detail=error.detail[:MAX_DETAIL], remedy=error.remedy[:MAX_REMEDY], **others)
