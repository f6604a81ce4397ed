"""Bytes on disk, external tensors included."""

from pathlib import Path

from app.spec.report import Size
from worker.engine.onnx_graph.file import bytes_on_disk


def measure_size(baseline: Path, artifact: Path) -> Size:
    """Size of both models as they would be deployed: the ONNX file and the tensor files it names."""
    return Size(before_bytes=bytes_on_disk(baseline), after_bytes=bytes_on_disk(artifact))
