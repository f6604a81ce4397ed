"""What every part of the contract shares: immutable, strict about unknown fields and non-finite numbers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A person's name for a thing: one printable line. Always escaped where it is shown."""

ModelId = Annotated[str, StringConstraints(pattern=r"^mdl_[0-9a-f]{32}$")]
"""An uploaded model."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A digest, in lower-case hexadecimal digits."""

ArtifactId = Annotated[str, StringConstraints(pattern=r"^art_[0-9a-f]{32}$")]
"""A delivered file."""

LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
LABEL_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,200}")

Labels = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=f"^{LABEL_NAME.pattern}$")],
        Annotated[str, StringConstraints(pattern=f"^{LABEL_VALUE.pattern}$")],
    ],
    Field(max_length=32),
]


def renamed(now: Mapping[str, str]) -> BeforeValidator:
    """Read what was stored under a value's former name: `now` has today's name for each of those."""
    return BeforeValidator(lambda value: now.get(value, value) if isinstance(value, str) else value)


class Frozen(BaseModel):
    """A value: compared by content, never changed, nothing unknown inside."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tagged(Frozen):
    """One of several kinds of a thing, which a job tells apart by the value of one field: its tag."""

    tag: ClassVar[str] = "type"
    """The field; its default in every kind is the only value it takes."""

    @classmethod
    def kind(cls) -> str:
        """What the kind is called in a job."""
        return str(cls.model_fields[cls.tag].default)


class Needs(Frozen):
    """What a step cannot work without; checked when a job is submitted."""

    calibration: bool = False
    """Rows in the role `calibration`."""
    train: bool = False
    """Rows in the role `train`."""
    labels: bool = False
    """Labels in the rows it learns from: those in the role `train`, or in `calibration` if it does not train."""
    trainable_graph: bool = False
    """A PyTorch program; an ONNX file is made one."""
    parameters: bool = False
    """Weights of a program that are parameters, not constants; an ONNX file knows no difference."""


@dataclass(frozen=True)
class OnlyWith:
    """Marks a field that does something only where another attribute of its step has one of these values."""

    attribute: str
    values: tuple[object, ...]
    condition: str
    """The condition in words, such as "optimizer 'sgd'"."""


class Step(Tagged):
    """One change to a model. Subclasses are the parameters; their implementation is in `worker.engine.passes.table`."""

    needs: ClassVar[Needs] = Needs()
    """What every step of the kind needs."""
    quantizes: ClassVar[bool] = False
    """Whether it rounds float32 weights: a model of another precision has none."""
    makes_plan: ClassVar[bool] = False
    """A plan describes the weights as they are now: no step may change the model after it."""

    @model_validator(mode="after")
    def _every_parameter_does_something(self) -> Self:
        """Refuse values that nothing will read. Defaults pass: a job that was stored whole names them all."""
        for name in sorted(self.model_fields_set):
            field = type(self).model_fields[name]
            if getattr(self, name) == field.default:
                continue
            for only_with in (note for note in field.metadata if isinstance(note, OnlyWith)):
                if getattr(self, only_with.attribute) not in only_with.values:
                    raise ValueError(f"{name} does nothing here: it needs {only_with.condition}; leave it out")
        return self

    def requires(self) -> Needs:
        """What this very step needs: parameters may ask for more than the kind does."""
        return self.needs

    def demands(self) -> frozenset[str]:
        """What its parameters demand of a target beside the step's kind, by the names in `app.spec.targets`."""
        return frozenset()

    def models(self) -> tuple[ModelId, ...]:
        """The other models that this step reads, such as a teacher."""
        return ()
