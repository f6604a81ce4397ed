"""What a measurement compares: a delivered artifact, the original, and the rows that both are run on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.spec.evaluate import Evaluate
from app.spec.report import TargetStatus
from app.spec.signature import Signature
from app.spec.targets import Target
from worker.engine.data.rows import Rows
from worker.engine.measure.batching import AnyRows, BatchRange, SyntheticRows
from worker.engine.measure.host import Host
from worker.engine.measure.running import Arrays, Run, filled, runner
from worker.engine.measure.runtime import Runtime
from worker.engine.model import Reference
from worker.engine.onnx_graph.sessions import session
from worker.engine.progress import Progress

RowSource = Literal["test", "calibration", "synthetic"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One artifact beside the original, with everything that their figures depend on."""

    target: Target
    artifact: Path
    """The file that is loaded."""
    runtime: Runtime
    """Open on the artifact, and on the original in the same format."""
    status: TargetStatus = "executed"
    """Other than "executed", what runs here stands in for the target's own runtime: nothing is timed. What was
    converted alone is not compared either."""
    exact: bool = False
    """Only the format has changed, so that outputs may differ by rounding alone."""
    pure: bool = False
    """Likewise, and the comparison was made when the model was opened."""
    steps: tuple[str, ...] = ()
    """Types of the steps that made it, for advice."""
    baseline: Path | None
    """The original as a float32 ONNX file; None where only the source program is looked at."""
    reference: Reference | None = None
    """The source program, where that is not the ONNX file itself."""
    signature: Signature
    rows: AnyRows
    row_source: RowSource
    evaluate: Evaluate
    threads: int
    """Of everything whose speed is not measured; latency has its own in `evaluate`."""
    seed: int
    progress: Progress
    host: Host = field(default_factory=Host.here)
    """The machine that measures."""

    def original(self) -> Run:
        """What runs the model as it was uploaded; of an ONNX file a new session, not kept while speed is measured."""
        return self.reference or runner(session(self.onnx_baseline, self.threads))

    @property
    def onnx_baseline(self) -> Path:
        """The original's ONNX file, where the comparison has it."""
        if self.baseline is None:
            raise ValueError("the comparison is with a program alone")
        return self.baseline

    @property
    def judged(self) -> str:
        """The output that metrics judge."""
        return self.evaluate.output or self.signature.outputs[0].name

    @property
    def batch(self) -> BatchRange:
        """The batches that the model takes."""
        return BatchRange.of(self.signature)

    @property
    def timed_batches(self) -> tuple[int, ...]:
        """The batch sizes to time: those asked for that the model takes, else its own; never empty."""
        wanted = self.evaluate.latency.batch
        taken = tuple(dict.fromkeys(size for size in wanted if size in self.batch))
        return taken or (self.batch.nearest(wanted[0]),)

    @property
    def timed_here(self) -> bool:
        """Whether speed on this machine is speed on the target."""
        return self.status == "executed" and self.host.represents(self.target)

    def feeds(self, size: int) -> Arrays:
        """Inputs of one batch of `size` rows, the first ones, repeated where there are fewer."""
        feeds, _ = next(iter(self.rows.batches(min(size, len(self.rows)))))
        count = max((len(array) for array in feeds.values() if array.ndim), default=1)
        return feeds if count >= size else filled(feeds, size)


def choose_rows(
    test: Rows | None, calibration: Rows | None, signature: Signature, seed: int
) -> tuple[AnyRows, RowSource]:
    """The best rows there are to run the models on: for testing, for calibration, or made up."""
    if test is not None and len(test):
        return test, "test"
    if calibration is not None and len(calibration):
        return calibration, "calibration"
    return SyntheticRows(signature, seed), "synthetic"
