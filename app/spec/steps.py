"""Every step that a job may take; `worker.engine.passes.table` has their implementations."""

from typing import TYPE_CHECKING, Annotated, Any

from app.spec.base import Step
from app.spec.choices import OneOf
from app.spec.distill import Distill
from app.spec.finetune import FineTune
from app.spec.prune import PruneChannels, PruneWeights
from app.spec.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from app.spec.quantize_aware import QuantizeAware
from app.spec.sensitivity import AnalyzeSensitivity
from app.spec.share import ShareWeights

STEPS: list[type[Step]] = [
    AnalyzeSensitivity,
    Distill,
    FineTune,
    PruneChannels,
    PruneWeights,
    QuantizeAware,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
    ShareWeights,
]

if TYPE_CHECKING:
    AnyStep = Step
else:  # pydantic takes it from the table; FastAPI would list an annotated base class in its document
    AnyStep = Annotated[Any, OneOf(STEPS)]
