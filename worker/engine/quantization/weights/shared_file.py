"""A file of shared weights: packed indices and tables, and the reader that makes float tensors of them again.

A `.safetensors` file. Its metadata has `format` = "pare.shared/1" and `shared`, a JSON object with, for each weight by
name, its `shape`, the order of `axes` and the number of `rows` in which its indices are laid out, the rows that share a
table (`group`) and the `bits` of an index. The weight W is stored as `W.table`, float32 `[groups, clusters]`, and as
the planes `W.indices.0`, `W.indices.1`, ... of packed bits (see `worker.engine.plan.packing`). Every other tensor is
stored as it is, under its own name.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from worker.engine.errors import LoadFailed
from worker.engine.plan.layout import Layout
from worker.engine.plan.packing import PLANES, pack, unpack
from worker.engine.plan.sharing import SharedWeight

FORMAT = "pare.shared/1"


def write_shared(path: Path, shared: Mapping[str, SharedWeight], others: Mapping[str, np.ndarray]) -> None:
    """Write the file; `others` are the tensors that share nothing."""
    tensors = {name: np.ascontiguousarray(array) for name, array in others.items()}
    described = {}
    for name, weight in shared.items():
        tensors[f"{name}.table"] = weight.tables
        for number, plane in enumerate(pack(weight.indices, weight.bits)):
            tensors[f"{name}.indices.{number}"] = plane
        described[name] = {
            "shape": [weight.layout.shape[axis] for axis in weight.layout.back],
            "axes": list(weight.layout.axes),
            "rows": weight.layout.rows,
            "group": weight.group,
            "bits": weight.bits,
        }
    save_file(tensors, path, metadata={"format": FORMAT, "shared": json.dumps(described)})


def read_shared(path: Path) -> dict[str, np.ndarray]:
    """Every tensor by name; shared ones as the float32 values that their indices stand for. Raises `LoadFailed`."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise LoadFailed("The file is not a readable .safetensors file.") from error
    if metadata.get("format") != FORMAT:
        raise LoadFailed(f"The file's format is {metadata.get('format')!r}, not {FORMAT!r}.")
    restored = {}
    for name, described in json.loads(metadata["shared"]).items():
        planes = [stored.pop(f"{name}.indices.{number}") for number in range(len(PLANES[described["bits"]]))]
        restored[name] = _restored(stored.pop(f"{name}.table"), planes, **described)
    return stored | restored


def _restored(  # the fields of the format
    tables: np.ndarray, planes: list[np.ndarray], shape: list[int], axes: list[int], rows: int, group: int, bits: int
) -> np.ndarray:
    count = int(np.prod(shape))
    indices = unpack(planes, bits, count).reshape(rows, -1)
    permuted = tuple(shape[axis] for axis in axes)
    inner = next(inner for inner in range(len(shape) + 1) if np.prod(permuted[: len(shape) - inner]) == rows)
    return SharedWeight(Layout(tuple(axes), permuted, inner), tables, indices, group).values()
