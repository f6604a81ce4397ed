"""Operators written out for the oldest TensorRT 10 compute what they did."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from worker.engine.targets.tensorrt.decompose import write_out


def outputs(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows})[0]


KINDS = [(TensorProto.FLOAT, np.float32, 1e-6), (TensorProto.FLOAT16, np.float16, 4e-3)]
FORMS = [("Gelu", {}), ("Gelu", {"approximate": "none"}), ("Gelu", {"approximate": "tanh"}), ("Mish", {})]


@pytest.mark.parametrize(("operator", "given"), FORMS)
@pytest.mark.parametrize(("kind", "dtype", "close"), KINDS)
def test_it_computes_the_same(operator: str, given: dict, kind: int, dtype: type, close: float) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node(operator, ["a"], ["b"], **given)]
    nodes += [helper.make_node("Neg", ["b"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 5]) for name in "xy")
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    rows = np.linspace(-4, 4, 50).reshape(10, 5).astype(dtype)
    before = outputs(model, rows)

    write_out(model)

    onnx.checker.check_model(model, full_check=True)
    assert operator not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(outputs(model, rows), before, atol=close)
