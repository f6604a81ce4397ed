"""Every failure Pare reports is one of these classes; `docs/errors.md` is generated from them.

A class is one code. Its docstring is the cause, `remedy` the cure, `status` the HTTP status it has when it
happens during a request (a failed job carries the same code in its row). Each package declares its own
subclasses beside the code that knows the cause; what several modules raise stands in an `errors` module.
"""

from collections.abc import Iterator
from typing import ClassVar


class PareError(Exception):
    """The root of the tree; never raised itself."""

    code: ClassVar[str]
    status: ClassVar[int] = 422
    remedy: ClassVar[str]

    def __init__(self, detail: str, *, pointer: str | None = None, remedy: str | None = None) -> None:
        """Describe one occurrence.

        `detail` says what happened here, without paths or secrets. `pointer` is the RFC 6901 place in the
        request body that caused it. `remedy` replaces the class's cure where a more precise one is known.
        """
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        if remedy is not None:
            self.remedy = remedy  # type: ignore[misc]  # the instance's cure shadows the class's

    @property
    def explanation(self) -> str:
        """What happened and what to do, as one text."""
        return f"{self.detail} {self.remedy}"

    @classmethod
    def every(cls) -> Iterator[type["PareError"]]:
        """Yield each class below this one that has a code of its own."""
        for child in cls.__subclasses__():
            if "code" in vars(child):
                yield child
            yield from child.every()
