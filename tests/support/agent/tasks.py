"""Tasks for an agent: an artifact, its original and rows, as a worker lays them out."""

import hashlib
import io
from pathlib import Path

import numpy as np

from tests.support.agent.measured import ORDER
from tests.support.files import onnx_classifier
from tests.support.installation.jobs import heavy_classifier

BATCHES, BATCH = 3, 8


def rows() -> np.ndarray:
    """Rows for the tiny classifier, float32 [batches, batch, 4]."""
    return np.random.default_rng(1).normal(size=(BATCHES, BATCH, 4)).astype(np.float32)


def rows_file(timed: int = 1) -> bytes:
    arrays = {f"{number}/x": batch for number, batch in enumerate(rows())}
    written = io.BytesIO()
    np.savez(written, **arrays, **{"timed/x": np.ones((timed, 4), np.float32)})
    return written.getvalue()


def files() -> dict[str, bytes]:
    """By role."""
    return {"artifact": onnx_classifier(), "baseline": onnx_classifier(), "rows": rows_file()}


def heavy_files() -> dict[str, bytes]:
    """The same with a model that has work to do: some 50 ms a run."""
    return {"artifact": heavy_classifier(), "baseline": heavy_classifier(), "rows": rows_file(timed=4096)}


def lay_out(folder: Path, **changed: bytes) -> dict:
    """Put the files into a folder; the order."""
    for role, content in (files() | changed).items():
        (folder / role).write_bytes(content)
    return ORDER


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
