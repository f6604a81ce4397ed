"""ONNX files of any age are opened, and compute what they did."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.admission import admit_model
from tests.support.engine.orders import outputs_of
from worker.engine.errors import LoadFailed
from worker.engine.onnx_graph import upgrading
from worker.engine.onnx_graph.file import default_opset
from worker.engine.onnx_graph.upgrading import modernized

ROWS = {"x": np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)}
WEIGHT = np.random.default_rng(1).standard_normal((4, 2, 3, 3)).astype(np.float32)


def value(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(folder: Path, opset: int, nodes: list[onnx.NodeProto], *, ir: int = 3, twice: bool = False) -> Path:
    """A convolution network of an age: its weight is listed among the inputs, as files of IR version 3 do."""
    graph = helper.make_graph(
        nodes,
        "old",
        [value("x", "n", 2, 6, 6), value("w", 4, 2, 3, 3)],
        [value("y", "n", "c")],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)] * (1 + twice), ir_version=ir)
    onnx.save(model, folder / "old.onnx")
    return folder / "old.onnx"


def old_nodes(opset: int) -> list[onnx.NodeProto]:
    """Operators whose attributes became inputs since."""
    clip = (
        helper.make_node("Clip", ["p"], ["c"], min=-1.0, max=1.0)
        if opset < 11
        else helper.make_node("Relu", ["p"], ["c"])
    )
    pad = [helper.make_node("Pad", ["x"], ["p0"], pads=[0, 0, 1, 1, 0, 0, 1, 1])] if opset < 11 else []
    return [
        *pad,
        helper.make_node("Conv", ["p0" if pad else "x", "w"], ["p"], kernel_shape=[3, 3]),
        clip,
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2, 3], keepdims=1),
        helper.make_node("Squeeze", ["m"], ["s"], axes=[2, 3]),
        helper.make_node("Dropout", ["s"], ["y"], **({"ratio": 0.5} if opset < 12 else {})),
    ]


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_an_old_file_is_admitted_upgraded_and_computes_the_same(tmp_path: Path, opset: int) -> None:
    path = saved(tmp_path, opset, old_nodes(opset))
    info = admit_model(path, max_inflated_bytes=1 << 30)

    modern = modernized(path, tmp_path / "modern.onnx", info.signature)

    assert [tensor.name for tensor in info.signature.inputs] == ["x"]
    assert any(f"opset {opset}: it is upgraded to 17" in warning for warning in info.warnings)
    assert default_opset(onnx.load(modern)) == 17
    assert outputs_of(modern, ROWS)[0] == pytest.approx(outputs_of(path, ROWS)[0], abs=1e-6)


def test_a_converter_that_makes_another_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, 9, old_nodes(9))
    signature = admit_model(path, max_inflated_bytes=1 << 30).signature
    convert = onnx.version_converter.convert_version

    def wrong(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * 1.1, "w"))
        return convert(model, opset)

    monkeypatch.setattr(upgrading.version_converter, "convert_version", wrong)
    with pytest.raises(LoadFailed, match="another model"):
        modernized(path, tmp_path / "modern.onnx", signature)


def test_a_current_file_is_left_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, 17, [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Flatten", ["a"], ["y"])])
    signature = admit_model(path, max_inflated_bytes=1 << 30).signature

    assert modernized(path, tmp_path / "modern.onnx", signature) == path


def test_an_opset_listed_twice_is_listed_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Flatten", ["a"], ["y"])]
    path = saved(tmp_path, 17, nodes, twice=True)
    signature = admit_model(path, max_inflated_bytes=1 << 30).signature

    modern = modernized(path, tmp_path / "modern.onnx", signature)

    assert len(onnx.load(modern).opset_import) == 1
    assert outputs_of(modern, ROWS)[0].shape == (3, 64)


def classifier(folder: Path, labels: dict[str, Any]) -> Path:
    """What skl2onnx makes of a logistic regression: labels, and a map from label to probability for each row."""
    texts = "classlabels_strings" in labels
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[0.1 * number for number in range(12)],
            intercepts=[0.0, 0.1, 0.2],
            post_transform="SOFTMAX",
            **({"classlabels_strings": labels["classlabels_strings"]} if texts else {"classlabels_ints": [0, 1, 2]}),
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **labels),
    ]
    key = TensorProto.STRING if texts else TensorProto.INT64
    inner = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(inner))
    graph = helper.make_graph(nodes, "skl", [value("x", None, 4)], [value("label", None, kind=key), maps])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "skl.onnx")
    return folder / "skl.onnx"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"classlabels_int64s": [0, 1, 2]}, ["label", "probabilities"]),
        ({"classlabels_strings": ["a", "b", "c"]}, ["probabilities"]),
    ],
)
def test_scores_behind_a_zipmap_are_delivered_as_tensors(tmp_path: Path, labels: Any, names: list[str]) -> None:
    path = classifier(tmp_path, labels)
    info = admit_model(path, max_inflated_bytes=1 << 30)
    rows = {"x": np.eye(4, dtype=np.float32)[:3]}

    modern = modernized(path, tmp_path / "modern.onnx", info.signature)

    assert [tensor.name for tensor in info.signature.outputs] == names
    assert info.signature.outputs[-1].shape[1] == 3
    scores = outputs_of(modern, rows)[-1]
    maps = outputs_of(path, rows)[-1]
    assert scores == pytest.approx(np.array([list(entry.values()) for entry in maps]), abs=1e-6)
