"""LiteRT: TensorFlow Lite files from PyTorch programs (litert-torch), and the interpreter that runs them.

Sources: https://ai.google.dev/edge/litert (conversion, XNNPACK delegate), https://github.com/google-ai-edge/litert-torch.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from .artifacts import Arrays, Artifacts
from .serve import Unsuitable

COMPUTE = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL"}
"""Operators that multiply and add."""


def version() -> dict[str, Any]:
    """Version of the LiteRT runtime."""
    return {"version": installed("ai-edge-litert")}


def convert(
    program: str, into: str, inputs: list[str], outputs: list[str], kernels: Literal["static", "dynamic"]
) -> dict[str, Any]:
    """The flat program in the `.pt2` file as `into`, its tensors under these names, in their order.

    `kernels`: what multiplies int8 weights, "static" or "dynamic" (see `litert_convert`).
    """
    # Imported here: the converter takes seconds, the interpreter none.
    from .litert_convert import convert_program

    stored = convert_program(program, into, inputs, outputs, kernels)
    return {"file": into, "stored": stored}


def compatibility(program: str) -> dict[str, Any]:
    """Operators of the flat program as they are lowered, by name and count, and those without a lowering."""
    from .litert_convert import lowered_operators

    operators, unknown = lowered_operators(program)
    return {"operators": operators, "unknown": unknown, "version": installed("litert-torch")}


class Opened:
    """A file with its interpreter. It takes so many rows in one call; more are run in several."""

    def __init__(self, path: Path, threads: int) -> None:
        self.interpreter = Interpreter(str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        signature = self.interpreter.get_signature_runner()
        self.inputs, self.outputs = signature.get_input_details(), signature.get_output_details()
        self.batch = next((int(tensor["shape"][0]) for tensor in self.inputs.values() if len(tensor["shape"])), 1)

    def __call__(self, feeds: Arrays) -> Arrays:
        rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}
        for call in self._calls(feeds, rows):
            call()
            for name, detail in self.outputs.items():
                parts[name].append(_values(self.interpreter.get_tensor(detail["index"]), detail))
        return {name: _joined(arrays, rows) for name, arrays in parts.items()}

    def bind(self, feeds: Arrays) -> Callable[[], object]:
        rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
        calls = list(self._calls(feeds, rows))

        def once() -> None:
            for call in calls:
                call()

        return once

    def _calls(self, feeds: Arrays, rows: int) -> Iterator[Callable[[], None]]:
        """One call after another until all rows were run; the last one is filled up with rows it has."""
        for start in range(0, rows, self.batch):
            place = np.arange(start, start + self.batch) % rows
            yield self._call({name: self._fitting(name, feeds[name], place) for name in self.inputs})

    def _call(self, tensors: Arrays) -> Callable[[], None]:
        indexed = [(self.inputs[name]["index"], array) for name, array in tensors.items()]

        def call() -> None:
            for index, array in indexed:
                self.interpreter.set_tensor(index, array)
            self.interpreter.invoke()

        return call

    def _fitting(self, name: str, array: np.ndarray, place: np.ndarray) -> np.ndarray:
        detail = self.inputs[name]
        taken = np.ascontiguousarray(_codes(array[place] if array.ndim else array, detail), detail["dtype"])
        if taken.shape != tuple(detail["shape"]):
            raise Unsuitable(
                f"the file takes {name} as {detail['shape'].tolist()}, the rows have {list(taken.shape)}: its format "
                "fixes every size"
            )
        return taken


def _codes(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Floats as the codes that a file with quantized inputs takes; everything else as it is."""
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(values.dtype, np.floating):
        return values
    limits = np.iinfo(detail["dtype"])
    codes: np.ndarray = np.clip(np.rint(values / scale) + zero, limits.min, limits.max)
    return codes


def _values(codes: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    return ((codes.astype(np.float32) - zero) * scale).astype(np.float32) if scale else codes


def _joined(parts: list[np.ndarray], rows: int) -> np.ndarray:
    return np.concatenate(parts)[:rows] if parts[0].ndim else parts[0]


_artifacts = Artifacts(Opened, Opened.bind)
run, time = _artifacts.run, _artifacts.time


def placement(artifact: str, threads: int) -> dict[str, Any]:
    """Operators of the file, and those of them that the XNNPACK delegate leaves to the interpreter's own kernels."""
    interpreter = _artifacts.opened(artifact, threads).interpreter
    types = {detail["index"]: detail["dtype"] for detail in interpreter.get_tensor_details()}
    nodes = interpreter._get_ops_details()  # noqa: SLF001  # the only place that lists them
    delegated = set(_delegated(nodes))
    kinds: Counter[str] = Counter()
    left: Counter[str] = Counter()
    integer = floating = 0
    for place, node in enumerate(nodes):
        if node["op_name"] == "DELEGATE":
            continue
        kinds[node["op_name"]] += 1
        if place not in delegated:
            left[node["op_name"]] += 1
        if node["op_name"] in COMPUTE:
            weights = [types.get(index) for index in node["inputs"][:2]]
            in_integers = any(dtype in (np.int8, np.uint8) for dtype in weights)
            integer, floating = integer + in_integers, floating + (not in_integers)
    return {"operators": dict(kinds), "integer": integer, "floating": floating, "fallback": dict(left)}


def _delegated(nodes: list[dict[str, Any]]) -> Iterator[int]:
    """Places of the nodes that delegates took: all that lead from a delegate's inputs to its outputs."""
    makers = {
        output: place for place, node in enumerate(nodes) if node["op_name"] != "DELEGATE" for output in node["outputs"]
    }
    for delegate in nodes:
        if delegate["op_name"] != "DELEGATE":
            continue
        given, wanted = set(delegate["inputs"]), list(delegate["outputs"])
        while wanted:
            tensor = wanted.pop()
            if tensor not in given and tensor in makers:
                given.add(tensor)
                yield makers[tensor]
                wanted.extend(nodes[makers[tensor]]["inputs"])
