"""TensorRT's own runtime: there is none here, so what is shown is how its interface is called, by a recording of it."""

import ctypes
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from worker.engine.measure.errors import ModelRunFailed
from worker.engine.targets.tensorrt.runtime import BuildFailed, Engine, Engines, build, placement_of, tensorrt_here

LAYERS = [
    {"LayerType": "CaskConvolution", "ParameterType": "Convolution", "Inputs": [{"Format/Datatype": "Int8 NC/32HW32"}]},
    {"LayerType": "CaskGemmMatrixMultiply", "Inputs": [{"Format/Datatype": "Row major linear FP16"}]},
    {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Int8"}]},
]
RANGES = {"x": ((1, 4), (8, 4), (32, 4))}


class Trt:
    """The parts of `tensorrt` that are called, remembering how. The engine doubles its input `x` [n, 4] into `y`."""

    __version__ = "10.3.0"
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    BuilderFlag = SimpleNamespace(FP16="FP16", INT8="INT8")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    LayerInformationFormat = SimpleNamespace(JSON="json")

    def __init__(self, *, readable: bool = True, buildable: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.readable, self.buildable = readable, buildable

    class Logger:
        WARNING = "warning"

        def __init__(self, level: str) -> None:
            self.level = level

    def Builder(self, _logger: Any) -> Any:  # noqa: N802
        profile = SimpleNamespace(set_shape=lambda *shape: self.calls.append(("shape", *shape)))
        config = SimpleNamespace(
            set_memory_pool_limit=lambda *limit: self.calls.append(("memory", *limit)),
            set_flag=lambda flag: self.calls.append(("flag", flag)),
            add_optimization_profile=lambda _profile: self.calls.append(("profile",)),
        )
        return SimpleNamespace(
            create_network=lambda flags: ("network", flags),
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=lambda _network, made: made.profiling_verbosity if self.buildable else None,
        )

    def OnnxParser(self, _network: Any, _logger: Any) -> Any:  # noqa: N802
        error = SimpleNamespace(desc=lambda: "no such operator")
        return SimpleNamespace(
            parse_from_file=lambda path: self.calls.append(("parse", path)) or self.readable,
            num_errors=1,
            get_error=lambda _number: error,
        )

    def Runtime(self, _logger: Any) -> Any:  # noqa: N802
        return SimpleNamespace(deserialize_cuda_engine=lambda _plan: Doubling())

    def nptype(self, kind: str) -> type:
        return {"float": np.float32}[kind]


class Doubling:
    """An engine with its execution context and its inspector in one."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def get_tensor_name(self, number: int) -> str:
        return "xy"[number]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"

    def get_tensor_dtype(self, _name: str) -> str:
        return "float"

    def create_execution_context(self) -> "Doubling":
        return self

    def create_engine_inspector(self) -> "Doubling":
        return self

    def get_engine_information(self, form: str) -> str:
        assert form == "json"
        return json.dumps({"Layers": LAYERS})

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 32

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _stream: int) -> bool:
        size = int(np.prod(self.shape))
        given, made = ((ctypes.c_float * size).from_address(self.addresses[name]) for name in "xy")
        np.ctypeslib.as_array(made)[:] = 2 * np.ctypeslib.as_array(given)
        return True


def test_an_engine_is_built_with_the_flags_and_shapes_of_the_command() -> None:
    trt = Trt()
    build(trt, Path("m.onnx"), RANGES, ("fp16", "int8"))

    assert ("parse", "m.onnx") in trt.calls
    assert ("memory", "workspace", 1 << 30) in trt.calls
    assert [call[1] for call in trt.calls if call[0] == "flag"] == ["FP16", "INT8"]
    assert ("shape", "x", (1, 4), (8, 4), (32, 4)) in trt.calls
    assert ("profile",) in trt.calls


def test_a_fixed_model_needs_no_profile() -> None:
    trt = Trt()
    build(trt, Path("m.onnx"), {}, ())
    assert not {"shape", "profile", "flag"} & {call[0] for call in trt.calls}


def test_what_cannot_be_read_or_built_says_so() -> None:
    with pytest.raises(BuildFailed, match="does not read the model: no such operator"):
        build(Trt(readable=False), Path("m.onnx"), RANGES, ())
    with pytest.raises(BuildFailed, match="builds no engine"):
        build(Trt(buildable=False), Path("m.onnx"), RANGES, ())


def test_an_engine_is_a_function_of_named_arrays() -> None:
    engine = Engine(Trt(), Doubling(), "cpu")
    rows = np.arange(12, dtype=np.float64).reshape(3, 4)

    np.testing.assert_array_equal(engine.run({"x": rows, "other": rows})["y"], 2 * rows.astype(np.float32))
    with pytest.raises(ModelRunFailed, match="no array for input 'x'"):
        engine.run({})
    with pytest.raises(ModelRunFailed, match="not built for"):
        engine.run({"x": np.zeros((64, 4))})


def test_both_engines_are_built_and_the_artifacts_is_the_one_with_flags(tmp_path: Path) -> None:
    trt = Trt()
    files = tmp_path / "before.onnx", tmp_path / "after.onnx"
    with Engines(trt, *files, RANGES, ("fp16",), device="cpu") as engines:
        outputs = engines.run({"x": np.ones((2, 4), np.float32)})
        placement = engines.placement()

    np.testing.assert_array_equal(outputs["y"], np.full((2, 4), 2, np.float32))
    assert engines.name == "TensorRT 10.3.0"
    kinds = [call[0] for call in trt.calls]
    assert kinds.index("flag") > [place for place, kind in enumerate(kinds) if kind == "parse"][1]
    assert (placement.integer, placement.floating) == (1, 1)


def test_layers_that_multiply_are_counted_by_the_type_of_their_inputs() -> None:
    placement = placement_of(LAYERS)

    assert placement.operators == {"CaskConvolution": 1, "CaskGemmMatrixMultiply": 1, "Reformat": 1}
    assert (placement.integer, placement.floating) == (1, 1)


def test_another_major_release_or_no_gpu_is_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.targets.tensorrt.runtime.importlib.util.find_spec", lambda _name: object())
    monkeypatch.setitem(sys.modules, "tensorrt", Trt)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert tensorrt_here(10) is Trt
    assert tensorrt_here(11) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert tensorrt_here(10) is None
