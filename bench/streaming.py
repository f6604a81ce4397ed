"""Image archives that are larger than memory.

A tar of JPEG photographs (noise at 500 x 375 pixels, made up on the spot, 100 KB each) is admitted, and then read by
the worker's loop as for training: shuffled, decoded, scaled to a shorter side of 256, cut to 224 x 224, normalized, in
batches of 32. Each is done to a small archive and to one ten times its size, in a process of its own; memory is the
resident peak above what the process had with its libraries loaded and ten batches read. Admission reads the headers of
the pictures, and so does not take long.
"""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from bench.harness.figures import Figure, at_most
from bench.harness.memory import MB
from bench.harness.scene import Scene

FULL, SHORT = (200_000_000, 2_000_000_000), (5_000_000, 25_000_000)
ADMISSION_MB, READING_MB = 50, 50
"""Most that the large archive may take more than the small one."""
VARIANTS, CLASSES = 40, 10
HEIGHT, WIDTH = 375, 500


def tell(scene: Scene) -> list[Figure]:
    rows = []
    peaks: dict[str, list[float]] = {"admission": [], "reading": []}
    for size in scene.pick(FULL, SHORT):
        path = scene.folder / f"{size}.tar"
        scene.say(f"writing {size:,} bytes of pictures")
        count = write_pictures(path, size)
        name = f"{size / MB:,.0f} MB"
        rows.append(Figure(f"{name}: pictures", count, ""))
        for what, seen in peaks.items():
            scene.say(f"{what}, {name}")
            measured = alone(what, path)
            seen.append(measured["peak_mb"])
            rows += [
                Figure(f"{name}: {what}, peak", measured["peak_mb"], "MB"),
                Figure(f"{name}: {what}, rate", path.stat().st_size / MB / measured["seconds"], "MB/s"),
            ]
        path.unlink()
    for what, limit in (("admission", ADMISSION_MB), ("reading", READING_MB)):
        few, many = peaks[what]
        rows.append(Figure(f"{what}: peak of the large above the small", many - few, "MB", at_most(limit)))
    return rows


def write_pictures(path: Path, size: int) -> int:
    """Write a tar of about `size` bytes; the number of pictures in it."""
    random = np.random.default_rng(0)
    pictures = [_photograph(random) for _ in range(VARIANTS)]
    count = written = 0
    with tarfile.open(path, "w") as archive:
        while written < size:
            content = pictures[count % VARIANTS]
            info = tarfile.TarInfo(f"class{count % CLASSES}/{count:06}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            written += len(content)
            count += 1
    return count


def _photograph(random: np.random.Generator) -> bytes:
    clouds = Image.fromarray(random.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), np.uint8))
    buffer = io.BytesIO()
    clouds.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def alone(what: str, path: Path) -> dict[str, float]:
    """`peak_mb` and `seconds` of one pass, in a process of its own."""
    command = [sys.executable, "-m", "bench.harness.streaming", what, str(path)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))
