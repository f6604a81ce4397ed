"""One task in the confined process: load, run the rows, time in turns with the original."""

from __future__ import annotations

import zipfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pare_agent.runtimes import MODELS, Arrays
from pare_agent.turns import take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMED = "timed"


def measure(order: dict[str, Any], cores: int, outputs_file: Path) -> dict[str, Any]:
    """Do what the order says with the files of the present folder; outputs go to a zip file of `.npy` arrays.

    The artifact comes first and alone, so that the peak of memory is its own. Raises what the runtime raises.
    """
    timing, notes = order["timing"], []
    threads = min(timing["threads"], cores)
    if threads < timing["threads"]:
        notes.append(f"Run on {threads} threads: {timing['threads']} were asked for, the device has no more.")
    opened = MODELS[order["runtime"]]
    started = perf_counter()
    artifact = opened(Path("artifact"), threads)
    load_ms = (perf_counter() - started) * 1000
    timed: Arrays = {}
    with zipfile.ZipFile(outputs_file, "w") as outputs:
        for batch, feeds in batches(Path("rows")):
            if batch == TIMED:
                timed = feeds
            else:
                _write(outputs, batch, artifact.run(feeds))
    peak = peak_memory_bytes()
    baseline = opened(Path("baseline"), threads)
    before, after = take_turns(
        (baseline.bound(timed), artifact.bound(timed)),
        runs=timing["runs"],
        budget_s=timing["budget_s"],
        seed=order["seed"],
    )
    return {
        "runtime": artifact.runtime,
        "load_ms": load_ms,
        "peak_memory_bytes": peak,
        "before_ns": before.astype(int).tolist(),
        "after_ns": after.astype(int).tolist(),
        "batch": max((len(rows) for rows in timed.values() if rows.ndim), default=1),
        "threads": threads,
        "notes": notes,
    }


def batches(path: Path) -> Iterator[tuple[str, Arrays]]:
    """Yield each batch with its name, in order; one is in memory at a time."""
    with np.load(path, allow_pickle=False) as file:
        names: dict[str, list[str]] = {}
        for key in file.files:
            names.setdefault(key.partition("/")[0], []).append(key)
        for batch, keys in names.items():
            yield batch, {key.partition("/")[2]: file[key] for key in keys}


def peak_memory_bytes() -> int:
    """The most resident memory of this process so far; `ru_maxrss` would hold what its parent had before."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _write(outputs: zipfile.ZipFile, batch: str, arrays: Arrays) -> None:
    for name, array in arrays.items():
        with outputs.open(f"{batch}/{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
