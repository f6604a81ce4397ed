"""Tables of rows, as a worker opens them."""

from pathlib import Path
from typing import Any

from app.admission import admit_dataset
from app.spec.data import DatasetSpec
from app.spec.work import DataFile
from worker.engine.data.rows import Rows


def opened(path: Path, inputs: list[str] | None = None, **spec: Any) -> Rows:
    declared = DatasetSpec.model_validate(spec)
    info = admit_dataset(path, declared, max_inflated_bytes=1 << 30)
    return Rows.open(path.parent, DataFile(path="data", info=info, spec=declared, split=None), inputs)


def rows_of(
    folder: Path, content: bytes, inputs: list[str] | None = None, split: str | None = None, **spec: Any
) -> Rows:
    """The rows of an archive that was admitted."""
    (folder / "data").write_bytes(content)
    declared = DatasetSpec.model_validate(spec)
    info = admit_dataset(folder / "data", declared, max_inflated_bytes=1 << 30)
    return Rows.open(folder, DataFile(path="data", info=info, spec=declared, split=split), inputs)
