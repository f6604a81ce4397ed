"""What a target's runtime makes of a model's operators, known before any job is queued."""

from typing import Annotated, Literal

from pydantic import Field

from app.spec.base import Frozen, renamed
from app.spec.targets import Target
from app.spec.work import ModelFile

MOST_OPERATORS = 2000
OWN = "worker"
"""Names the knowledge of targets that need no toolchain, beside the toolchains' names."""

Support = Annotated[
    Literal["supported", "falls_back", "unsupported", "not_quantizable"],
    renamed({"falls back": "falls_back", "not quantizable": "not_quantizable"}),
]
"""`falls_back`: it runs, but not as it is or not where it should: written out, in another type, by another engine.
`not_quantizable`: it runs, and stays in floating point whatever `quantize.static` does."""


class OperatorSupport(Frozen):
    """Operators of one type that share a fate."""

    operator: str = Field(description='By its qualified name: "Conv", "com.microsoft.Gelu", "aten.relu.default".')
    count: int = Field(ge=1)
    status: Support
    why: str = Field("", max_length=500, description="Empty where there is nothing to say.")
    source: str = Field(max_length=200, description="Where this is known from, with its version.")


class Compatibility(Frozen):
    """What one target makes of one model."""

    target: Target
    operators: tuple[OperatorSupport, ...] = Field(max_length=MOST_OPERATORS)
    refusal: str | None = Field(None, max_length=2000, description="Why the model as a whole cannot be delivered.")
    notes: tuple[str, ...] = Field((), max_length=50)


class CompatibilityWanted(Frozen):
    """What a job of the service's own is told: targets of one format."""

    targets: tuple[Target, ...] = Field(min_length=1)


class CompatibilityOrder(CompatibilityWanted):
    """The same with a model to look at, its file below the order's directory."""

    model: ModelFile
    knowledge: str = Field("", description="What the answer rests on: changes with what is installed.")
    threads: int = Field(1, ge=1, description="Size of every thread pool.")


class Compatibilities(Frozen):
    """What a worker found out, in the order of the targets."""

    tables: tuple[Compatibility, ...]
    knowledge: str = Field("", description="The order's.")
    seconds: float
