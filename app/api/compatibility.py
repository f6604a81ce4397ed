"""How it is shown what targets make of a model's operators."""

from pydantic import BaseModel, Field

from app.services.compatibility import Known, Status
from app.spec.compatibility import OperatorSupport
from app.spec.failure import Failure
from app.spec.targets import Target


class CompatibilityOut(BaseModel):
    """What one target makes of a model: a table of operators, or where finding it out stands."""

    label: str = Field(examples=["onnx/x86"])
    target: Target
    status: Status = Field(
        description="'pending': a worker is looking. 'failed': it could not tell. 'unavailable': no live worker can."
    )
    operators: tuple[OperatorSupport, ...] = ()
    refusal: str | None = Field(None, description="Why the model as a whole cannot be delivered.")
    notes: tuple[str, ...] = ()
    error: Failure | None = None

    @classmethod
    def of(cls, known: Known) -> "CompatibilityOut":
        table = known.table
        answers = {} if table is None else table.model_dump(include={"operators", "refusal", "notes"})
        return cls.model_validate(
            answers
            | {"label": known.target.label, "target": known.target, "status": known.status, "error": known.error}
        )


class CompatibilitiesOut(BaseModel):
    """What every target that was asked for makes of a model."""

    data: list[CompatibilityOut]
