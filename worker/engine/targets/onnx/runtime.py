"""ONNX Runtime on this CPU, in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from app.spec.evaluate import Latency
from app.spec.report import Placement, Size
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.layers import measure_layers
from worker.engine.measure.placement import measure_placement, rounded_by_runtime
from worker.engine.measure.running import Arrays, Run, Session, runner
from worker.engine.measure.runtime import Layers
from worker.engine.measure.size import measure_size
from worker.engine.onnx_graph.sessions import computes_in_float16, ort, session
from worker.toolchains.turns import Once, take_turns


@dataclass(frozen=True)
class OnnxRuntime:
    """Two ONNX files: `baseline`, the original in float32, and `artifact`. `threads`: for everything but latency."""

    baseline: Path
    artifact: Path
    threads: int
    scratch: Path

    name = f"ONNX Runtime {ort.__version__}"

    @cached_property
    def run(self) -> Run:
        """The artifact's outputs by name. Raises `LoadFailed`, later `ModelRunFailed`."""
        return runner(session(self.artifact, self.threads, blocked=self._blocked))

    def take_turns(self, feeds: Arrays, settings: Latency, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of each run of both. Raises `ModelRunFailed`.

        Inputs are bound to the sessions once and outputs are left with the runtime (`IOBinding`): the figures are
        the graph's alone, without the conversion of arrays, which a caller in another language does not pay.
        """
        sessions = (
            session(self.baseline, settings.threads),
            session(self.artifact, settings.threads, blocked=self._blocked),
        )
        once = tuple(bound(opened, feeds) for opened in sessions)
        try:
            return take_turns((once[0], once[1]), runs=settings.runs, budget_s=settings.budget_s, seed=seed)
        except Exception as error:
            raise ModelRunFailed(f"ONNX Runtime stopped while it was timed: {str(error)[:500]}") from error

    def profile(self, _feeds: Arrays, _threads: int) -> None:
        """Its profiler writes a file of every event; nothing is made of that."""

    @cached_property
    def _blocked(self) -> bool:
        return not computes_in_float16(onnx.load(self.artifact, load_external_data=False).graph)

    @cached_property
    def _placement(self) -> Placement:
        return measure_placement(self.artifact, self.threads, self.scratch, blocked=self._blocked)

    def placement(self) -> Placement:
        """Operators of the graph that ONNX Runtime makes of the artifact for this machine."""
        return self._placement

    def layers(self, rows: AnyRows, batch: BatchRange, advance: Callable[[float], None]) -> Layers:
        """Noise at the output of each layer that the original has, too; a note if layers are rounded after all."""
        errors, notes = measure_layers(self.baseline, self.artifact, rows, batch, self.threads, advance)
        return errors, (*rounded_by_runtime(self.artifact, self.placement()), *notes)

    def size(self) -> Size:
        """Of both files, external tensors included."""
        return measure_size(self.baseline, self.artifact)


def bound(session: Session, feeds: Arrays) -> Once:
    """A run of the session on inputs that were handed over once. Raises `ModelRunFailed` for a missing input."""
    binding = session.io_binding()
    for node in session.get_inputs():
        if node.name not in feeds:
            raise ModelRunFailed(f"The data has no array for input {node.name!r}.")
        binding.bind_cpu_input(node.name, np.ascontiguousarray(feeds[node.name]))
    for node in session.get_outputs():
        binding.bind_output(node.name, "cpu")
    return lambda: session.run_with_iobinding(binding)
