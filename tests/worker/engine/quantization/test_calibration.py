"""Calibration uses the same memory for few rows and for many, and for activations of any size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worker.engine.quantization.statistics.batches import ACTIVATION_BYTES, BATCH, groups, rows_at_once

CALIBRATE = """
import pathlib, resource, sys
import numpy as np
from app.spec.quantize import QuantizeStatic
from tests.support.engine.orders import changed, rows_of
folder, graph, observer, count = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.float32, (count, 3, 64, 64))
for row in range(count):
    images[row] = np.random.default_rng(row).standard_normal((3, 64, 64))
images.flush()
rows = rows_of(folder, image=images)
del images
step = QuantizeStatic(observer=observer, samples=count)
assert changed(step, graph, folder, rows).facts["samples"] == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("observer", ["minmax", "entropy"])
def test_memory_is_flat_in_the_number_of_rows(observer, resnet18: Path, tmp_path: Path) -> None:
    """64 more images of a resnet18 at 64x64 would be 100 MB if their activations were kept."""

    def peak_mib(rows: int) -> int:
        folder = tmp_path / str(rows)
        folder.mkdir()
        command = [sys.executable, "-c", CALIBRATE, str(folder), str(resnet18), observer, str(rows)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak_mib(512) - peak_mib(64) < 60


LARGE_ACTIVATIONS = """
import pathlib, resource, sys
import numpy as np, torch
from app.spec.quantize import QuantizeStatic
from tests.support.engine import zoo
from tests.support.engine.orders import changed, rows_of
folder = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
layers = [torch.nn.Conv2d(16 if layer else 3, 16, 3, padding=1) for layer in range(16)]
graph = zoo.export(
    torch.nn.Sequential(*layers), folder / "deep.onnx", {"image": torch.zeros(2, 3, 224, 224)}, ["features"]
)
rows = rows_of(folder, image=np.random.default_rng(0).standard_normal((16, 3, 224, 224)).astype(np.float32))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
changed(QuantizeStatic(equalize=True), graph, folder, rows)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_large_activations_are_freed_as_soon_as_they_are_reduced(tmp_path: Path) -> None:
    """Each of 16 convolutions puts out 3 MB for an image: 16 images at once, kept to the end, would be 820 MB."""
    command = [sys.executable, "-c", LARGE_ACTIVATIONS, str(tmp_path)]

    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]) < 300


def test_rows_at_once_keep_activations_in_the_budget() -> None:
    assert rows_at_once([10, 20]) == BATCH
    assert rows_at_once([ACTIVATION_BYTES // 4 // 5]) == 5
    assert rows_at_once([ACTIVATION_BYTES, ACTIVATION_BYTES]) == 1


def test_groups_hold_every_tensor_once_and_stay_in_the_budget() -> None:
    elements = {"a": 10, "b": ACTIVATION_BYTES, "c": ACTIVATION_BYTES // 8, "d": ACTIVATION_BYTES // 8, "e": 5}
    cut = groups(elements, elements, batch=1)

    assert [name for group in cut for name in group] == list(elements)
    for group in cut:
        assert len(group) == 1 or sum(4 * elements[name] for name in group) <= ACTIVATION_BYTES
    assert len(cut) == 4


def test_constant_rows_still_give_a_range(digits_folder: Path, tmp_path: Path) -> None:
    from app.spec.quantize import QuantizeStatic
    from tests.support.engine.orders import changed, lowered, outputs_of, rows_of

    black = np.zeros((4, 1, 8, 8), np.float32)
    for observer in ("minmax", "percentile", "entropy"):
        graph = digits_folder / "digits.onnx"
        quantized = changed(QuantizeStatic(observer=observer), graph, tmp_path, rows_of(tmp_path, image=black))
        before, after = (
            outputs_of(path, {"image": black})[0] for path in (graph, lowered(quantized.model, "x86", tmp_path))
        )
        assert np.abs(before - after).max() < 0.1 * np.abs(before).max()
