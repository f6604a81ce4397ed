"""Calibration in constant memory.

ResNet-50's activation ranges by percentile, each time in a fresh process: Pare's step over 16 and over 512 pictures,
and ONNX Runtime's own percentile calibrater over 8, because it keeps every activation of every picture. Memory is the
resident peak above what the process had with its libraries loaded, and once all of it.
"""

import json
import subprocess
import sys
from pathlib import Path

from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene
from bench.harness.subjects import export_network, save_pictures

FLAT = 1.25
"""Peak with 32 times as many pictures: the allocator's mood, and nothing more."""
RESIDENT_MB = 1500


def tell(scene: Scene) -> list[Figure]:
    few, many, theirs = scene.pick((16, 512, 8), (4, 8, 2))
    model = export_network("resnet50", scene.folder / "resnet50.onnx")
    ours = {count: _pictures(scene, "pare", model, count) for count in (few, many)}
    kept = _pictures(scene, "library", model, theirs)
    rows = []
    for count, seen in ours.items():
        rows += [
            Figure(f"Pare, {count} pictures: peak", seen["peak_mb"], "MB"),
            Figure(f"Pare, {count} pictures: time for each", seen["seconds"] / count, "s"),
        ]
    return [
        *rows,
        Figure(f"peak with {many} / with {few}", ours[many]["peak_mb"] / ours[few]["peak_mb"], "", at_most(FLAT)),
        Figure(f"{many} pictures: resident in all", ours[many]["resident_mb"], "MB", at_most(RESIDENT_MB)),
        Figure(f"ONNX Runtime, {theirs} pictures: peak", kept["peak_mb"], "MB"),
        Figure(f"ONNX Runtime, {theirs} pictures: time for each", kept["seconds"] / theirs, "s"),
        Figure("ONNX Runtime: peak for each picture", kept["peak_mb"] / theirs, "MB"),
    ]


def _pictures(scene: Scene, who: str, model: Path, count: int) -> dict[str, float]:
    scene.say(f"{who} calibrates on {count} pictures")
    folder = scene.folder / f"{who}-{count}"
    folder.mkdir()
    return measured(who, model, save_pictures(folder / "pictures.npz", count), folder)


def measured(who: str, model: Path, rows: Path, folder: Path) -> dict[str, float]:
    """`peak_mb` and `seconds` of one calibration by `pare` or by the `library`, in a process of its own."""
    command = [sys.executable, "-m", "bench.harness.calibrating", who, *map(str, (model, rows, folder))]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))
