"""OpenVINO, in its toolchain."""

from worker.engine.targets.base import ExportContext
from worker.engine.targets.toolchain_runtime import ToolchainRuntime
from worker.engine.toolchains.process import Toolchain


def openvino_runtime(
    openvino: Toolchain, baseline: tuple[str, ...], artifact: tuple[str, ...], context: ExportContext
) -> ToolchainRuntime:
    """Both models of the toolchain's folder, `.xml` and `.bin` each. Raises the toolchain's errors."""
    version = openvino.do("version")["version"]
    return ToolchainRuntime(openvino, f"OpenVINO {version}", baseline, artifact, context.threads)
