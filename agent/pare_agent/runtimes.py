"""The runtimes that load an artifact, each as a function of named arrays. Imported in the confined process alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

Arrays = dict[str, np.ndarray]


class OnnxModel:
    """A CPU session of ONNX Runtime, configured as the service's workers configure theirs."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load the file: what the caller times."""
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        self.runtime = f"ONNX Runtime {ort.__version__}"

    def run(self, feeds: Arrays) -> Arrays:
        """The outputs by name, in the model's order."""
        wanted = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, wanted)))

    def bound(self, feeds: Arrays) -> Callable[[], object]:
        """A run on inputs that were handed over once: the time of the graph alone."""
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        return lambda: self._session.run_with_iobinding(binding)


class LiteRtModel:
    """A LiteRT interpreter. A file has one batch size: more rows are run in several calls, the last one filled up."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load the file: what the caller times."""
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        signature = self._interpreter.get_signature_runner()
        self._inputs, self._outputs = signature.get_input_details(), signature.get_output_details()
        self._batch = next((int(tensor["shape"][0]) for tensor in self._inputs.values() if len(tensor["shape"])), 1)
        self.runtime = f"LiteRT {version('ai-edge-litert')}"

    def run(self, feeds: Arrays) -> Arrays:
        """Outputs by name, rows on their first axis."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self._outputs}
        for call in self._calls(feeds):
            call()
            for name, detail in self._outputs.items():
                parts[name].append(self._interpreter.get_tensor(detail["index"]))
        rows = _rows(feeds)
        return {name: np.concatenate(arrays)[:rows] if arrays[0].ndim else arrays[0] for name, arrays in parts.items()}

    def bound(self, feeds: Arrays) -> Callable[[], object]:
        """A run of all rows of `feeds`."""
        calls = self._calls(feeds)

        def once() -> None:
            for call in calls:
                call()

        return once

    def _calls(self, feeds: Arrays) -> list[Callable[[], None]]:
        rows = _rows(feeds)
        places = [np.arange(start, start + self._batch) % rows for start in range(0, rows, self._batch)]
        return [self._call(feeds, place) for place in places]

    def _call(self, feeds: Arrays, place: np.ndarray) -> Callable[[], None]:
        given = [(detail["index"], _fitting(name, feeds[name], place, detail)) for name, detail in self._inputs.items()]

        def call() -> None:
            for index, array in given:
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()

        return call


MODELS: dict[str, Any] = {"onnxruntime": OnnxModel, "litert": LiteRtModel}


def _rows(feeds: Arrays) -> int:
    return max((len(array) for array in feeds.values() if array.ndim), default=1)


def _fitting(name: str, array: np.ndarray, place: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    taken = np.ascontiguousarray(array[place] if array.ndim else array, detail["dtype"])
    if taken.shape != tuple(detail["shape"]):
        raise ValueError(f"the file takes {name} as {detail['shape'].tolist()}, the rows have {list(taken.shape)}")
    return taken
