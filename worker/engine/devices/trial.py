"""What a device is given: an artifact, open on this machine, and everything that its answers are judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.spec.evaluate import Evaluate
from app.spec.report import TargetReport
from app.spec.signature import Signature
from app.spec.targets import Target
from worker.engine.devices.recording import Recording, record
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.running import Arrays, Run, filled, runner
from worker.engine.measure.runtime import Runtime
from worker.engine.model import Reference
from worker.engine.onnx_graph.sessions import session
from worker.engine.progress import Progress


@dataclass(frozen=True)
class Trial:
    """One delivered artifact, on its way over the devices."""

    target: Target
    number: int
    """Of the target in the job."""
    files: tuple[Path, ...]
    """The loadable one first."""
    runtime: Runtime
    report: TargetReport
    """What was measured here already."""
    baseline: Path
    """The original as a float32 ONNX file."""
    reference: Reference | None
    """The source program, where that is not the ONNX file itself."""
    signature: Signature
    rows: AnyRows
    evaluate: Evaluate
    threads: int
    """Of everything whose speed is not measured."""
    seed: int
    directory: Path
    """The job's."""
    progress: Progress
    as_onnx: Callable[[Path], Path] | None = None
    """Writes what the same plan makes of an ONNX file; None where only the artifact is known."""

    @cached_property
    def folder(self) -> Path:
        """An empty one for this trial's files; devices use folders of their own below it."""
        folder = self.directory / "devices" / str(self.number)
        folder.mkdir(parents=True)
        return folder

    @cached_property
    def original(self) -> Run:
        """Outputs of the model as it was uploaded."""
        return self.reference or runner(session(self.baseline, self.threads))

    @property
    def batch(self) -> BatchRange:
        """The batches that the model takes."""
        return BatchRange.of(self.signature)

    @property
    def timed_batch(self) -> int:
        """The batch that devices are timed at: the first of `evaluate.latency` that the model takes."""
        wanted = self.evaluate.latency.batch
        return next((size for size in wanted if size in self.batch), self.batch.nearest(wanted[0]))

    def timed_feeds(self) -> Arrays:
        """Rows for one timed run."""
        size = self.timed_batch
        feeds, _ = next(iter(self.rows.batches(min(size, len(self.rows)))))
        return filled(feeds, size)

    @property
    def size_bytes(self) -> int:
        """Of the files that a device loads."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def recording(self) -> Recording:
        """Rows with the answers of the original and of the artifact here, made when first asked for."""
        batches = record(self.folder / "recording", self.rows, self.batch, self.original, self.runtime.run, self.seed)
        tested = self.report.parity_data == "test"
        return Recording(tuple(batches), tested, self.evaluate.metrics, self.evaluate.output)
