"""What a file of shared weights restores is what the model computes with."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from worker.engine.errors import LoadFailed
from worker.engine.plan.layout import Layout
from worker.engine.plan.sharing import share
from worker.engine.quantization.weights.shared_file import read_shared, write_shared

LAYOUTS = {
    "convolution": Layout((0, 1, 2, 3), (16, 8, 3, 3), 3),
    "product": Layout((1, 0), (24, 50), 1),
    "batched product": Layout((0, 2, 1), (3, 20, 16), 1),
    "transposed convolution": Layout((1, 0, 2, 3), (8, 16, 3, 3), 3),
    "one column": Layout((0, 1), (600, 1), 1),
}


@pytest.mark.parametrize("clusters", [4, 16, 60, 256])
@pytest.mark.parametrize("group", [None, 1, 5])
def test_every_tensor_comes_back(clusters: int, group: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shared = {}
    for name, layout in LAYOUTS.items():
        matrix = random.normal(size=(layout.rows, layout.columns)).astype(np.float32)
        shared[name] = share(layout.tensor(matrix), layout, clusters, group)
    bias = random.normal(size=16).astype(np.float32)
    write_shared(tmp_path / "weights.safetensors", shared, {"bias": bias})

    restored = read_shared(tmp_path / "weights.safetensors")

    assert restored.keys() == {*LAYOUTS, "bias"}
    np.testing.assert_array_equal(restored["bias"], bias)
    for name, weight in shared.items():
        np.testing.assert_array_equal(restored[name], weight.values())
        rows = weight.layout.matrix(restored[name])
        assert max(len(np.unique(rows[at : at + weight.group])) for at in range(0, len(rows), weight.group)) <= clusters


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"w": np.zeros(3)}, tmp_path / "plain.safetensors")
    with pytest.raises(LoadFailed, match="format is None"):
        read_shared(tmp_path / "plain.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(LoadFailed, match="not a readable"):
        read_shared(tmp_path / "broken.safetensors")
