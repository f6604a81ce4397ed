"""ExecuTorch: `.pte` files of exported programs, their operators given to XNNPACK, and the runtime that runs them.

Beside a file lies `<file>.json` with what the file itself does not tell: names of its tensors, and who executes which
operators. Sources: https://docs.pytorch.org/executorch (export and lowering, XNNPACK backend, devtools).
"""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib as runtime

from .artifacts import Arrays, Artifacts, arrays
from .serve import Unsuitable

Call = Callable[[], list[torch.Tensor]]


def version() -> dict[str, Any]:
    """Of converter and runtime, which are one package."""
    return {"version": installed("executorch")}


def convert(program: str, into: str, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    """The flat program in the `.pt2` file as `into`, its tensors under these names, in their order."""
    # Imported here: the converter takes seconds, the runtime little.
    from .executorch_convert import convert_program

    placed = convert_program(program, into)
    Path(f"{into}.json").write_text(json.dumps({"inputs": inputs, "outputs": outputs, "placement": placed}))
    return {"files": [into, f"{into}.json"]}


def rows(artifact: str) -> dict[str, Any]:
    """How many a file takes in one call."""
    return {"rows": _artifacts.opened(artifact, 1).rows}


class _Threads:
    """The runtime has one pool of threads for all that is loaded."""

    count = 0

    def use(self, count: int) -> None:
        if count != self.count:
            runtime._unsafe_reset_threadpool(count)  # noqa: SLF001  # the only way
            self.count = count


_threads = _Threads()


class _Open:
    """A loaded file. It takes so many rows in one call at most; more are run in several."""

    def __init__(self, path: Path, threads: int, *, profiled: bool = False) -> None:
        self.threads = threads
        _threads.use(threads)
        self.module = runtime._load_for_executorch(str(path), enable_etdump=profiled)  # noqa: SLF001
        description = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        self.inputs, self.outputs = description["inputs"], description["outputs"]
        self.placement = description["placement"]
        meta = self.module.method_meta("forward")
        self.sizes = [tuple(meta.input_tensor_meta(position).sizes()) for position in range(meta.num_inputs())]
        self.rows = min((sizes[0] for sizes in self.sizes if sizes), default=1)

    def __call__(self, feeds: Arrays) -> Arrays:
        parts = [[tensor.numpy() for tensor in call()] for call in self._calls(feeds, clone=True)]
        columns = zip(self.outputs, zip(*parts, strict=True), strict=True)
        return {name: np.concatenate(arrays) if arrays[0].ndim else arrays[0] for name, arrays in columns}

    def bind(self, feeds: Arrays) -> Callable[[], object]:
        calls = list(self._calls(feeds, clone=False))

        def once() -> None:
            for call in calls:
                call()

        return once

    def _calls(self, feeds: Arrays, *, clone: bool) -> Iterator[Call]:
        _threads.use(self.threads)
        rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
        for start in range(0, rows, self.rows):
            tensors = tuple(
                self._tensor(feeds[name], sizes, start) for name, sizes in zip(self.inputs, self.sizes, strict=True)
            )
            yield lambda given=tensors: self.module.forward(given, clone)  # type: ignore[misc]  # bound now

    def _tensor(self, array: np.ndarray, sizes: tuple[int, ...], start: int) -> torch.Tensor:
        rows = array[start : start + self.rows] if array.ndim else array
        if any(size > most for size, most in zip(rows.shape, sizes, strict=True)):
            raise Unsuitable(f"the file takes sizes up to {list(sizes)}, the rows have {list(rows.shape)}")
        return torch.from_numpy(np.ascontiguousarray(rows))


_artifacts = Artifacts(_Open, _Open.bind)
run, time = _artifacts.run, _artifacts.time


def placement(artifact: str, threads: int) -> dict[str, Any]:
    """Operators by who executes them, as the converter placed them."""
    placement: dict[str, Any] = _artifacts.opened(artifact, threads).placement
    return placement


def profile(artifact: str, threads: int, feeds: str, runs: int) -> dict[str, Any]:
    """Mean microseconds of each operator in one call on the rows of `feeds`, by the runtime's own events."""
    from .executorch_profile import operators

    opened = _Open(Path(artifact), threads, profiled=True)
    once = opened.bind(arrays(feeds))
    for _ in range(runs):
        once()
    dump = f"{artifact}.etdump"
    opened.module.write_etdump_result_to_file(dump)
    return {"operators": operators(dump)}
