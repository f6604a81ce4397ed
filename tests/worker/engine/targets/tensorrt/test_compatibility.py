"""TensorRT's rules and table, by operator."""

from pathlib import Path

import numpy as np
from onnx.helper import make_node

from app.spec.targets import TensorRtTarget
from tests.support.engine.looks import fates, graph, looked


def test_rules_and_releases_decide(tmp_path: Path) -> None:
    model = graph(
        make_node("Conv", ["x", "w"], ["a"], "conv"),
        make_node("Gelu", ["a"], ["b"], "gelu"),
        make_node("MaxPool", ["b"], ["c"], "pool", kernel_shape=[2, 2], dilations=[2, 2]),
        make_node("MaxPool", ["b"], ["d"], "sound", kernel_shape=[2, 2]),
        make_node("Det", ["c"], ["e"], "det"),
        make_node("Add", ["d", "d"], ["y"], "add"),
        w=np.ones((4, 3, 3, 3), np.float32),
    )
    ten, eleven = (looked(model, tmp_path, TensorRtTarget(profile=profile)) for profile in ("trt10", "trt11"))

    assert fates(ten) == {
        "Conv": {"supported": 1},
        "Gelu": {"falls_back": 1},
        "MaxPool": {"unsupported": 1, "not_quantizable": 1},
        "Det": {"unsupported": 1},
        "Add": {"not_quantizable": 1},
    }
    assert fates(eleven)["Gelu"] == {"not_quantizable": 1}
    assert {row.why for row in ten.operators if row.operator == "MaxPool"} >= {"TensorRT pools without dilations."}
    assert all("onnx-tensorrt 10.15" in row.source for row in ten.operators if row.status != "not_quantizable")


def test_an_opset_is_a_matter_of_the_whole_model(tmp_path: Path) -> None:
    model = graph(make_node("Relu", ["x"], ["y"], "relu"), opset=23)

    assert "opset 23" in (looked(model, tmp_path, TensorRtTarget()).refusal or "")
    assert looked(model, tmp_path, TensorRtTarget(profile="trt11")).refusal is None
