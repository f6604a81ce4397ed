"""LiteRT, in its toolchain."""

from app.spec.targets import LiteRtTarget
from app.spec.units import counted
from worker.engine.targets.base import ExportContext
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.toolchains.process import Toolchain


def litert_runtime(
    litert: Toolchain, baseline: str, artifact: str, target: LiteRtTarget, context: ExportContext, *notes: str
) -> ToolchainRuntime:
    """Both files of the toolchain's folder, with what to know of the figures. Raises the toolchain's errors."""
    version = litert.do("version")["version"]
    if any(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in context.original.signature.inputs):
        at_once = counted(target.batch, "row")
        notes = (f"The file takes {at_once} at a time: larger batches were run and timed as several calls.", *notes)
    return ToolchainRuntime(litert, f"LiteRT {version}", (baseline,), (artifact,), context.threads, notes)
