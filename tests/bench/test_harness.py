"""What the stories stand on."""

import io
import mmap
import os
import subprocess
import sys

import numpy as np

from bench.harness.memory import MB, watching
from bench.harness.npz_stream import BLOCK_BYTES, BLOCK_ROWS, COLUMNS, NpzStream
from bench.harness.subjects import SIDE, pictures

SIXTY_FOUR = 64 << 20
HOLDS_MEMORY = """
import sys, time
sys.stdin.readline()
held = b"x" * (64 << 20)
time.sleep(0.3)
del held
print("let go", flush=True)
sys.stdin.readline()
"""


def test_memory_that_is_let_go_again_counts_in_the_peak() -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDS_MEMORY], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    with child, watching(child.pid) as seen:
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
    assert seen.growth_mb > 0.9 * SIXTY_FOUR / MB
    assert seen.after < seen.peak - SIXTY_FOUR / 2


def test_the_stream_is_an_npz_that_numpy_reads() -> None:
    content = NpzStream.of(2 * BLOCK_BYTES + 1)

    whole = b"".join(content)
    with np.load(io.BytesIO(whole)) as file:
        x = file["x"]

    assert len(content) == len(whole)
    assert x.shape == (2 * BLOCK_ROWS, COLUMNS)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert 0.9 < x.std() < 1.1


def test_parts_are_the_same_bytes_cut_at_the_part_size() -> None:
    content, size = NpzStream.of(1), 5_000_000

    parts = [b"".join(part) for part in content.parts(size)]

    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert 0 < len(parts[-1]) <= size
    assert b"".join(parts) == b"".join(content)


def test_pictures_are_smooth_and_normalised_and_repeat() -> None:
    made = pictures(2, seed=3)

    assert made.shape == (2, 3, SIDE, SIDE)
    assert made.dtype == np.float32
    assert np.allclose(made.mean((1, 2, 3)), 0, atol=1e-4)
    assert np.allclose(made.std((1, 2, 3)), 1, atol=1e-3)
    neighbours = np.corrcoef(made[0, 0, :, :-1].ravel(), made[0, 0, :, 1:].ravel())[0, 1]
    assert neighbours > 0.8  # white noise has 0
    assert np.array_equal(made, pictures(2, seed=3))
    assert not np.array_equal(made, pictures(2, seed=4))


def test_a_process_under_watch_is_this_one_too() -> None:
    with watching(os.getpid()) as seen:
        # Pages of its own: from the heap of a long test run, it might be handed what others have left.
        held = np.frombuffer(mmap.mmap(-1, SIXTY_FOUR), np.uint8)
        held[:] = 1
    assert seen.growth_mb > 0.9 * SIXTY_FOUR / MB
    assert seen.after >= seen.before
