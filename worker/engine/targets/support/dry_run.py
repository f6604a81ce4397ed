"""Targets whose converter keeps no list: the model is delivered as it is, and the result says what became of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx

from app.errors import PareError
from app.spec.compatibility import Compatibility
from app.spec.report import Placement
from app.spec.targets import AnyTarget
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_graph.types import inferred
from worker.engine.plan.selection import WEIGHTED
from worker.engine.progress import ToolchainMissing
from worker.engine.targets.base import ArtifactProvenance, Deliver, ExportContext
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.support.quantizing import Quantizing

PROVENANCE = ArtifactProvenance("compatibility", "0" * 64, "0" * 64)


def by_delivery(deliver: Deliver, targets: tuple[Any, ...], look: Look) -> Iterator[Compatibility]:
    """Operators of the delivered graph, all of them run; or the converter's refusal. Raises `ToolchainMissing`."""
    for target in targets:
        out = look.scratch / "dry-run"
        out.mkdir(exist_ok=True)
        context = ExportContext(
            original=look.model,
            provenance=PROVENANCE,
            directory=look.directory,
            out=out,
            scratch=look.scratch,
            threads=look.threads,
            progress=look.progress,
        )
        tally, refusal = Tally(), None
        try:
            with deliver(target, look.model, context) as exported:
                count_placed(tally, exported.runtime.placement(), f"{exported.runtime.name}, dry run of the conversion")
        except ToolchainMissing:
            raise
        except PareError as error:
            refusal = error.explanation
        yield table(target, tally, refusal, () if refusal else _notes(target, look))


def count_placed(tally: Tally, placed: Placement, source: str) -> None:
    """Operators of a delivered graph, as its runtime placed them."""
    for operator, count in placed.operators.items():
        left = min((placed.fallback or {}).get(operator, 0), count)
        if left:
            tally.add(operator, "falls_back", "It is left to kernels of the runtime that are slower.", source, left)
        if count > left:
            tally.add(operator, "supported", "", source, count - left)


def _notes(target: AnyTarget, look: Look) -> tuple[str, ...]:
    """What quantize.static leaves in floating point, by the names of the ONNX form, on which plans are made."""
    if not target.supports("quantize.static"):
        return (f"No operator is quantizable: {target.label} delivers no plan of quantize.static.",)
    try:
        model = onnx.load(look.model.graph, load_external_data=False)
    except ExportFailed as error:
        return (f"No operator is quantizable: plans are made on the ONNX form. {error.detail}",)
    quantizing = Quantizing(model, inferred(model)[0])
    products = [node for node in model.graph.node if node.op_type in WEIGHTED]
    left = Counter((node.op_type, obstacle) for node in products if (obstacle := quantizing.obstacle(node)) is not None)
    return tuple(
        f"Not quantizable in the ONNX form: {operator} ({count}): {why}"
        for (operator, why), count in left.most_common()
    )
