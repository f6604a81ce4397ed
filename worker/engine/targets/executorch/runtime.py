"""ExecuTorch, in its toolchain: what is loaded of the files, and what to know of the figures."""

from app.spec.units import counted
from worker.engine.targets.base import ExportContext
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.toolchains.process import Toolchain


def executorch_runtime(
    executorch: Toolchain, baseline: tuple[str, ...], artifact: tuple[str, ...], context: ExportContext, *notes: str
) -> ToolchainRuntime:
    """Both files; what lies beside them is not deployed, and does not count as their size.

    Raises the toolchain's errors.
    """
    version = executorch.do("version")["version"]
    if any(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in context.original.signature.inputs):
        most = counted(executorch.do("rows", artifact=artifact[0])["rows"], "row")
        notes = (f"The file takes up to {most}: larger batches were run and timed as several calls.", *notes)
    return ToolchainRuntime(
        executorch,
        f"ExecuTorch {version}",
        baseline[:1],
        artifact[:1],
        context.threads,
        notes=tuple(note for note in notes if note),
        profiled=True,
    )
