"""ONNX Runtime's registry tells what runs, and the placement of quantize.static what stays in floats."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from app.spec.targets import OnnxTarget
from tests.support.engine.compatibility import Unusual, asked_of_program
from tests.support.engine.looks import fates, graph, looked
from worker.engine.targets.onnx import kernels
from worker.runtime.job_sandbox import JobSandbox

WEIGHT = np.ones((4, 3, 3, 3), np.float32)


def test_every_fate_has_its_operators(tmp_path: Path) -> None:
    model = graph(
        make_node("Conv", ["x", "w"], ["a"], "conv"),
        make_node("Relu", ["a"], ["b"], "relu"),
        make_node("Conv", ["b", "computed"], ["c"], "dynamic"),
        make_node("Neg", ["w2"], ["computed"], "neg"),
        make_node("Erf", ["c"], ["d"], "erf"),
        make_node("Foo", ["d"], ["e"], "foo", domain="my.domain"),
        make_node("AffineGrid", ["theta", "size"], ["f"], "grid"),
        make_node("Mish", ["f"], ["y"], "mish"),
        domains=["my.domain"],
        w=WEIGHT,
        w2=np.ones((4, 4, 3, 3), np.float32),
        theta=np.ones((1, 2, 3), np.float32),
        size=np.array([1, 3, 4, 4]),
    )
    table = looked(model, tmp_path, OnnxTarget())

    assert fates(table) == {
        "my.domain.Foo": {"unsupported": 1},
        "Conv": {"supported": 1, "not_quantizable": 1},
        "Erf": {"not_quantizable": 1},
        "Neg": {"not_quantizable": 1},
        "Relu": {"supported": 1},
        "AffineGrid": {"not_quantizable" if has_kernel("AffineGrid") else "falls_back": 1},
        "Mish": {"not_quantizable" if has_kernel("Mish") else "falls_back": 1},
    }
    assert table.operators[0].status == "unsupported", "what stands in the way comes first"
    whys = {(row.operator, row.status): row.why for row in table.operators}
    assert whys["Conv", "supported"] == "In integers after quantize.static."
    assert "computed while the model runs" in whys["Conv", "not_quantizable"]
    assert all(onnxruntime.__version__ in row.source for row in table.operators)


def has_kernel(operator: str) -> bool:
    return ("", operator) in kernels._kernels()


@pytest.mark.parametrize(
    ("kind", "status"),
    [(TensorProto.FLOAT, "not_quantizable"), (TensorProto.FLOAT16, "falls_back"), (TensorProto.INT64, "unsupported")],
)
def test_types_decide_whether_there_is_a_kernel(kind: int, status: str, tmp_path: Path) -> None:
    table = looked(graph(make_node("Softplus", ["x"], ["y"], "soft"), kind=kind), tmp_path, OnnxTarget())

    assert fates(table) == {"Softplus": {status: 1}}


@pytest.mark.parametrize("profile", ["x86", "tensorrt"])
def test_profiles_differ_in_what_they_quantize(profile: str, digits_folder: Path, tmp_path: Path) -> None:
    table = looked(onnx.load(digits_folder / "digits.onnx"), tmp_path, OnnxTarget(profile=profile))
    found = fates(table)

    assert found["Conv"] == {"supported": 3}
    assert found["Gemm"] == {"supported": 2}
    assert ("supported" in found["Relu"]) == (profile == "x86")


def test_what_the_registry_calls_supported_loads_and_the_rest_does_not(tmp_path: Path) -> None:
    """Against the runtime itself: one graph an operator."""
    for node, constants in (
        (make_node("Gelu", ["x"], ["y"]), {}),
        (
            make_node("MaxUnpool", ["x", "where"], ["y"], kernel_shape=[2, 2]),
            {"where": np.zeros((1, 3, 8, 8), np.int64)},
        ),
        (make_node("Det", ["x"], ["y"]), {}),
        (make_node("BitwiseNot", ["x"], ["y"]), {}),
        (make_node("HannWindow", ["size"], ["y"]), {"size": np.array(4)}),
    ):
        model = graph(node, **constants)
        (row,) = looked(model, tmp_path, OnnxTarget()).operators
        try:
            onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
            loads = True
        except Exception:  # noqa: BLE001  # pybind raises a class per status
            loads = False
        assert (row.status != "unsupported") == loads, row


def test_a_function_of_the_models_own_is_supported(tmp_path: Path) -> None:
    model = graph(make_node("Twice", ["x"], ["y"], domain="my"), domains=["my"])
    body = [make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        onnx.helper.make_function("my", "Twice", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 20)])
    )

    assert list(fates(looked(model, tmp_path, OnnxTarget()))) == ["my.Twice"]
    assert looked(model, tmp_path, OnnxTarget()).operators[0].status != "unsupported"


def test_a_program_that_has_no_onnx_form_says_so(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    for table in asked_of_program(Unusual(), job_sandbox, tmp_path, OnnxTarget(), OnnxTarget(profile="arm")):
        assert "bessel_j0" in (table.refusal or "")
