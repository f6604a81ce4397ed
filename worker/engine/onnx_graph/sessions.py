"""ONNX Runtime sessions, all configured alike."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: Linux wheels since 1.29 report usage

import onnxruntime as ort
from onnx import GraphProto, TensorProto

from worker.engine.errors import LoadFailed

__all__ = ["computes_in_float16", "ort", "session", "without_paths"]

ort.set_default_logger_severity(3)  # errors only; warnings about foldable nodes fill a job's log


def session(
    model: Path | bytes,
    threads: int,
    *,
    optimize: bool = True,
    optimized: Path | None = None,
    config: Mapping[str, str] | None = None,
    blocked: bool = True,
) -> ort.InferenceSession:
    """A CPU session of an ONNX file, with one pool of `threads` threads that do not spin between runs.

    `optimized` is where the runtime writes the graph it really executes; `config` holds further entries of
    the runtime's session configuration, by their full keys. `blocked` False keeps convolutions out of the blocked
    layout: see `computes_in_float16`. Raises `LoadFailed`.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if blocked else ["NchwcTransformer"],
        )
    except Exception as error:  # pybind raises a class per status code, all direct children of Exception
        raise LoadFailed(f"ONNX Runtime refuses the model: {without_paths(error, model)}") from error


def computes_in_float16(graph: GraphProto) -> bool:
    """Whether a graph computes with float16 constants: ONNX Runtime 1.31.1 crashed on some in its blocked layout.

    A small vision transformer in float16 ended its process with SIGSEGV in NchwcTransformer; without, it ran. Constants
    that are only cast to another type, as scales of weights are, never meet a kernel of float16.
    """
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    return any(node.op_type != "Cast" and not halves.isdisjoint(node.input) for node in graph.node)


BUILD_PLACE = re.compile(r"\S*onnxruntime\S*\.(?:h|cc|cpp|hpp):\d+ ")
"""A source file of the runtime, as its messages quote it: "/onnxruntime_src/…/gather.cc:41 "."""


def without_paths(error: Exception, model: Path | bytes = b"") -> str:
    """The runtime's sentence without the place of the file or of its sources, for a detail that leaves the machine."""
    sentence = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(model, Path):
        sentence = sentence.replace(str(model), "the model").replace(str(model.parent), "")
    return BUILD_PLACE.sub("", sentence)[:500]
