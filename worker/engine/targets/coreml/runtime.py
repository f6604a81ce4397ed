"""An artifact whose runtime is on no worker of this kind: it can be described, and not run."""

from dataclasses import dataclass

import numpy as np

from app.spec.evaluate import Latency
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.running import Arrays
from worker.engine.targets.toolchain_runtime import ToolchainRuntime


@dataclass(frozen=True)
class NotRunnable(ToolchainRuntime):
    """Sizes and placement are those of the files."""

    def run(self, _feeds: Arrays) -> Arrays:
        raise ModelRunFailed(f"{self.name} converts on this machine, and runs nothing here.")

    def take_turns(self, _feeds: Arrays, _settings: Latency, _seed: int) -> tuple[np.ndarray, np.ndarray]:
        raise ModelRunFailed(f"{self.name} converts on this machine, and runs nothing here.")
