"""What a worker finds in an uploaded model, before any job: what it costs, and what each step could do to it."""

from pydantic import Field

from app.spec.base import Frozen
from app.spec.work import ModelFile

MOST_GROUPS = 2000
"""Of one inspection; a network with more layers lists the largest."""


class InspectionOrder(Frozen):
    """One model to look at, its file below the order's directory."""

    model: ModelFile
    threads: int = Field(1, ge=1, description="Size of every thread pool.")


class PrunableGroup(Frozen):
    """Channels that `prune.channels` keeps or removes together, wherever they occur."""

    name: str = Field(description="The layer that makes these channels, as `include` and `exclude` match it.")
    layers: tuple[str, ...] = Field(description="Every layer whose output channels these are, `name` first.")
    channels: int
    parameters: int = Field(description="Elements of all weights that are tied to these channels.")


class StepOutlook(Frozen):
    """What one kind of step could do to the model."""

    applicable: bool
    says: str = Field(description="What to expect, or why it cannot be taken: one sentence.")


class Inspection(Frozen):
    """One model, looked at without data: every figure is for float weights as uploaded."""

    parameters: int = Field(description="Elements in all weights, buffers such as running statistics left out.")
    macs: int | None = Field(
        None, description="Multiply-accumulates for one row, products of activations included; None: unknown."
    )
    macs_note: str = Field("", description="What the count leaves out or assumes; empty: nothing.")
    operators: dict[str, int] = Field(description="How often each operator occurs.")
    groups: tuple[PrunableGroup, ...] = Field((), max_length=MOST_GROUPS)
    frozen_operators: dict[str, int] = Field(
        default_factory=dict, description="Operators the channel analysis has no rule for; what they touch stays whole."
    )
    not_imported: str = Field(
        "", description="Why no program can be made of an ONNX file: the node and the reason. Empty: one can."
    )
    steps: dict[str, StepOutlook] = Field(description="By step type, e.g. `prune.channels`.")
    seconds: float = Field(description="How long looking took.")
