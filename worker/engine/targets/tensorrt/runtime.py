"""TensorRT on this machine's GPU: engines of the original and the artifact, built, run, timed and inspected.

Source: NVIDIA, TensorRT Python API (https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api), releases
10 and 11. Device memory is torch's.
"""

import importlib
import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
import torch

from app.spec.evaluate import Latency
from app.spec.report import Placement, Size
from worker.engine.errors import EngineError
from worker.engine.measure.batching import AnyRows, BatchRange
from worker.engine.measure.errors import ModelRunFailed
from worker.engine.measure.running import Arrays
from worker.engine.measure.runtime import Layers
from worker.engine.measure.size import measure_size
from worker.toolchains.turns import take_turns


class BuildFailed(EngineError):
    """TensorRT is installed on the worker, and builds no engine of the file that passed the rules."""

    code = "target.build_failed"
    remedy = "Build the delivered kind of file with trtexec --verbose to see why, and put the node it names on `skip`."


Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
WORKSPACE_BYTES = 1 << 30
COMPUTES = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply")
"""In the type or the parameters of a layer that multiplies and adds."""


def tensorrt_here(major: int) -> ModuleType | None:
    """The `tensorrt` package, if it is of this major release and there is a GPU for it."""
    if not torch.cuda.is_available() or importlib.util.find_spec("tensorrt") is None:
        return None
    trt = importlib.import_module("tensorrt")
    return trt if trt.__version__.split(".")[0] == str(major) else None


class Engines:
    """Two engines: of `baseline`, the original in float32, and of `artifact`; both are built when the block begins."""

    def __init__(
        self,
        trt: Any,
        baseline: Path,
        artifact: Path,
        ranges: Mapping[str, Range],
        flags: tuple[str, ...] = (),
        *,
        device: str = "cuda",
    ) -> None:
        """`ranges`: smallest, usual and largest shape of inputs that vary; `flags`: precisions, for TensorRT 10."""
        self._trt, self._ranges, self._device = trt, dict(ranges), device
        self._files = (baseline, artifact)
        self._flags = ((), flags)
        self._engines: list[Engine] = []
        self.name = f"TensorRT {trt.__version__}"

    def __enter__(self) -> Self:
        for file, flags in zip(self._files, self._flags, strict=True):
            built = build(self._trt, file, self._ranges, flags)
            self._engines.append(Engine(self._trt, built, self._device))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._engines.clear()

    def run(self, feeds: Arrays) -> Arrays:
        """The artifact's outputs by name. Raises `ModelRunFailed`."""
        return self._engines[1].run(feeds)

    def take_turns(self, feeds: Arrays, settings: Latency, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Nanoseconds of each run of both on the GPU, inputs and outputs in its memory. Raises `ModelRunFailed`."""
        once = tuple(engine.bound(feeds) for engine in self._engines)
        return take_turns((once[0], once[1]), runs=settings.runs, budget_s=settings.budget_s, seed=seed)

    def profile(self, _feeds: Arrays, _threads: int) -> None:
        """Layers are fused beyond recognition; `trtexec --dumpProfile` tells of them."""

    def placement(self) -> Placement:
        """The layers of the engine, as its inspector tells them."""
        return placement_of(self._engines[1].layers())

    def layers(self, _rows: AnyRows, _batch: BatchRange, _advance: Callable[[float], None]) -> Layers:
        """Layers are fused into kernels: their outputs cannot be seen."""
        return (), ()

    def size(self) -> Size:
        """Of both ONNX files, which are what is delivered."""
        return measure_size(*self._files)


def build(trt: Any, model: Path, ranges: Mapping[str, Range], flags: tuple[str, ...]) -> Any:
    """An engine of an ONNX file. Raises `BuildFailed` with what the parser says."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        errors = "; ".join(str(parser.get_error(number).desc()) for number in range(parser.num_errors))
        raise BuildFailed(f"TensorRT {trt.__version__} does not read the model: {errors[:1500]}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
    if ranges:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in ranges.items():
            profile.set_shape(name, smallest, usual, largest)
        config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise BuildFailed(f"TensorRT {trt.__version__} reads the model, and builds no engine of it.")
    return trt.Runtime(logger).deserialize_cuda_engine(serialized)


class Engine:
    """An engine as a function of named arrays."""

    def __init__(self, trt: Any, engine: Any, device: str) -> None:
        """`device`: where torch makes the buffers."""
        self._trt, self._engine, self._device = trt, engine, device
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._buffers: dict[str, torch.Tensor] = {}

    def run(self, feeds: Arrays) -> Arrays:
        """Outputs by name. Raises `ModelRunFailed`."""
        self.bound(feeds)()
        return {name: self._buffers[name].cpu().numpy() for name in self._outputs}

    def bound(self, feeds: Arrays) -> Callable[[], None]:
        """A run on inputs that were copied to the device once; it returns when the outputs are there."""
        buffers = {}
        for name in self._inputs:
            if name not in feeds:
                raise ModelRunFailed(f"The data has no array for input {name!r}.")
            wanted = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            buffers[name] = torch.from_numpy(np.ascontiguousarray(feeds[name], wanted)).to(self._device)
            if not self._context.set_input_shape(name, tuple(buffers[name].shape)):
                raise ModelRunFailed(f"The engine was not built for input {name!r} of {list(buffers[name].shape)}.")
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                raise ModelRunFailed(f"The size of output {name!r} depends on the data.")
            kind = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            buffers[name] = torch.from_numpy(np.empty(shape, kind)).to(self._device)
        self._buffers = buffers

        def once() -> None:
            stream = torch.cuda.current_stream() if self._device == "cuda" else None
            for name, buffer in buffers.items():
                self._context.set_tensor_address(name, buffer.data_ptr())
            if not self._context.execute_async_v3(stream.cuda_stream if stream else 0):
                raise ModelRunFailed("TensorRT stopped while it ran the engine; its log says why.")
            if stream:
                stream.synchronize()

        return once

    def layers(self) -> list[dict[str, Any]]:
        """What `IEngineInspector` tells of each layer."""
        inspector = self._engine.create_engine_inspector()
        information: dict[str, Any] = json.loads(
            inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        )
        return [layer for layer in information["Layers"] if isinstance(layer, dict)]


def placement_of(layers: list[dict[str, Any]]) -> Placement:
    """Layers by type; those that multiply count as integer where an input of theirs is."""
    counted = Counter(str(layer.get("LayerType", "unknown")) for layer in layers)
    integer, floating = 0, 0
    for layer in layers:
        kinds = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
        if any(kind in kinds for kind in COMPUTES):
            formats = [str(tensor.get("Format/Datatype", "")).lower() for tensor in layer.get("Inputs", ())]
            on_codes = any("int8" in spelled for spelled in formats)
            integer, floating = integer + on_codes, floating + (not on_codes)
    return Placement(operators=dict(counted.most_common()), integer=integer, floating=floating)
