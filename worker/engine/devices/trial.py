"""What a device is given: an artifact, open on this machine, and everything that its answers are judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.spec.report import TargetReport
from worker.engine.devices.recording import Recording, record
from worker.engine.measure.comparison import Comparison
from worker.engine.measure.running import Arrays


@dataclass(frozen=True)
class Trial:
    """One delivered artifact, on its way over the devices."""

    comparison: Comparison
    """The artifact and the original on this machine."""
    number: int
    """Of the target in the job."""
    files: tuple[Path, ...]
    """The loadable one first."""
    report: TargetReport
    """What was measured here already."""
    directory: Path
    """The job's own folder; every path of its order is below it."""
    as_onnx: Callable[[Path], Path] | None = None
    """Writes what the same plan makes of an ONNX file; None where only the artifact is known."""

    @cached_property
    def folder(self) -> Path:
        """An empty one for this trial's files; devices use folders of their own below it."""
        folder = self.directory / "devices" / str(self.number)
        folder.mkdir(parents=True)
        return folder

    @property
    def timed_batch(self) -> int:
        """The batch that devices are timed at."""
        return self.comparison.timed_batches[0]

    def timed_feeds(self) -> Arrays:
        """Rows for one timed run."""
        return self.comparison.feeds(self.timed_batch)

    @property
    def size_bytes(self) -> int:
        """Of the files that a device loads."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def recording(self) -> Recording:
        """Rows with the answers of the original and of the artifact here, made when first asked for."""
        pair, folder = self.comparison, self.folder / "recording"
        batches = record(folder, pair.rows, pair.batch, pair.original(), pair.runtime.run, pair.seed)
        evaluate, judged = pair.evaluate, pair.judged
        axes = {output.output: output.class_axis for output in self.report.parity}
        test = pair.row_source == "test"
        return Recording(tuple(batches), test, evaluate.metrics, evaluate.output, axes.get(judged))
