"""Every step of the contract with its implementation."""

from collections.abc import Callable
from typing import Any

from app.spec.base import Step
from app.spec.distill import Distill
from app.spec.finetune import FineTune
from app.spec.prune import PruneChannels, PruneWeights
from app.spec.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from app.spec.quantize_aware import QuantizeAware
from app.spec.sensitivity import AnalyzeSensitivity
from app.spec.share import ShareWeights
from worker.engine.context import Changed, Context
from worker.engine.model import Model
from worker.engine.passes.analyze_sensitivity import analyze_sensitivity
from worker.engine.passes.distill import distill
from worker.engine.passes.finetune import finetune
from worker.engine.passes.prune_channels import prune_channels
from worker.engine.passes.prune_weights import prune_weights
from worker.engine.passes.quantize_aware import quantize_aware
from worker.engine.passes.quantize_dynamic import quantize_dynamic
from worker.engine.passes.quantize_static import quantize_static
from worker.engine.passes.quantize_weights import quantize_weights
from worker.engine.passes.share_weights import share_weights

Pass = Callable[[Any, Model, Context], Changed]

PASSES: dict[type[Step], Pass] = {
    AnalyzeSensitivity: analyze_sensitivity,
    Distill: distill,
    FineTune: finetune,
    PruneChannels: prune_channels,
    PruneWeights: prune_weights,
    QuantizeAware: quantize_aware,
    QuantizeDynamic: quantize_dynamic,
    QuantizeStatic: quantize_static,
    QuantizeWeights: quantize_weights,
    ShareWeights: share_weights,
}


def apply_step(step: Step, model: Model, context: Context) -> Changed:
    """Apply the pass of the step."""
    return PASSES[type(step)](step, model, context)
