"""ONNX files and bundles are admitted and described as they are."""

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, version_converter

from app.admission import AdmissionError, admit_model
from app.spec.signature import Dimension, ModelInfo, TensorSpec
from tests.support.hostile.onnx_files import external, node, proto, referring, value, weight

GIB = 1 << 30
BATCH = Dimension(name="batch")


def admit(path: Path) -> ModelInfo:
    return admit_model(path, max_inflated_bytes=GIB)


@pytest.fixture
def given(tmp_path: Path) -> Any:
    """Admits a model made here."""

    def read(model: ModelProto | bytes) -> ModelInfo:
        path = tmp_path / "upload"
        path.write_bytes(model.SerializeToString() if isinstance(model, ModelProto) else model)
        return admit(path)

    return read


def test_an_exported_cnn_with_a_dynamic_batch(cnn_onnx: Path) -> None:
    info = admit(cnn_onnx)
    assert info.signature.inputs == (TensorSpec(name="x", dtype="float32", shape=(BATCH, 1, 8, 8)),)
    assert [spec.shape for spec in info.signature.outputs] == [(BATCH, 10)]
    assert info.operators["Conv"] == 1
    assert info.opset is not None
    assert info.opset >= 18
    assert not info.external_data
    assert info.warnings == ()


def test_external_data_needs_its_bundle(external_onnx: Path) -> None:
    with pytest.raises(AdmissionError) as refused:
        admit(external_onnx)
    assert refused.value.code == "model.external_data"
    assert "zip or tar" in refused.value.remedy


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_bundle(external_onnx: Path, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "bundle", "w", method) as archive:
        for file in external_onnx.parent.iterdir():
            archive.write(file, f"export/{file.name}")
    info = admit(tmp_path / "bundle")
    assert info.external_data
    assert info.signature.inputs[0].shape == (BATCH, 1, 8, 8)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_bundle(external_onnx: Path, tmp_path: Path, format_: int) -> None:
    with tarfile.open(tmp_path / "bundle", "w", format=format_) as archive:
        archive.add(external_onnx.parent, arcname="export")
    assert admit(tmp_path / "bundle").external_data


@pytest.fixture
def folder(external_onnx: Path, tmp_path: Path) -> Path:
    """A model and its tensors, with what macOS leaves beside them."""
    shutil.copytree(external_onnx.parent, tmp_path / "export")
    (tmp_path / "export" / ".DS_Store").write_bytes(b"Bud1")
    return tmp_path / "export"


def test_a_tar_of_the_folder_itself(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bundle", "w") as archive:
        archive.add(folder, arcname=".")
    assert admit(tmp_path / "bundle").external_data


def test_a_tar_made_by_tar(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-cf", tmp_path / "bundle", "-C", folder, "."], check=True)
    assert admit(tmp_path / "bundle").external_data


def test_a_zip_made_by_macos(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bundle", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"./{file.name}")
            archive.writestr(f"__MACOSX/._{file.name}", b"\0\5\x16\7")
    assert admit(tmp_path / "bundle").external_data


def test_every_weight_counts_and_is_no_input(given: Any) -> None:
    matrix = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    bias = helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    nodes = [bias, node("Gemm", ["x", "w", "b"])]
    inputs = [value("x", ["n", 4]), value("w", [4, 3])]
    info = given(proto(nodes, inputs=inputs, outputs=[value("y", ["n", 3])], weights=[matrix]))
    assert [spec.name for spec in info.signature.inputs] == ["x"]
    assert info.parameters == 15
    assert info.operators == {"Constant": 1, "Gemm": 1}


def test_unnamed_dimensions_get_names(given: Any) -> None:
    info = given(proto([node("Relu")], inputs=[value("x", [None, 3, None])], outputs=[value("y", [None, 3, None])]))
    shape = info.signature.inputs[0].shape
    assert shape == (Dimension(name="x_dim0"), 3, Dimension(name="x_dim2"))


def test_a_negative_size_is_dynamic_and_an_input_of_size_0_is_refused(given: Any) -> None:
    info = given(proto([node("Relu")], inputs=[value("x", [-1, 4])], outputs=[value("y", [-1, 4])]))
    assert info.signature.inputs[0].shape == (Dimension(name="x_dim0"), 4)

    with pytest.raises(AdmissionError) as refused:
        given(proto([node("Relu")], inputs=[value("x", [0, 4])], outputs=[value("y", [0, 4])]))
    assert refused.value.code == "model.unsupported_type"
    assert "'x' has an axis of size 0" in refused.value.detail


def test_an_old_opset_is_refused_until_it_is_converted(given: Any) -> None:
    old = proto([node("Relu")], opset=6)
    with pytest.raises(AdmissionError) as refused:
        given(old)
    assert refused.value.code == "model.outdated_format"
    assert "onnx.version_converter.convert_version(model, 17)" in refused.value.remedy
    assert given(version_converter.convert_version(old, 17)).opset == 17
    assert given(proto([node("Relu")], opset=13)).opset == 13
    assert given(proto([node("Relu")], opset=7)).opset == 7
    assert "opset 7: it is upgraded to 17" in given(proto([node("Relu")], opset=7)).warnings[-1]
    assert not any("upgraded" in warning for warning in given(proto([node("Relu")], opset=13)).warnings)


def test_a_version_that_is_declared_twice_is_one(given: Any) -> None:
    model = proto([node("Relu")], opset=17)
    model.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", 17)])

    assert given(model).opset == 17


def test_weights_that_are_standardized_are_no_training_mode(given: Any) -> None:
    def warned(read: str) -> bool:
        nodes = [
            node("BatchNormalization", [read, "s", "s", "s", "s"], ["z"], training_mode=1),
            node("Add", ["x", "z"]),
        ]
        weights = [numpy_helper.from_array(np.ones(4, np.float32), name) for name in ("s", "w")]
        return any("training mode" in warning for warning in given(proto(nodes, weights=weights)).warnings)

    assert not warned("w")
    assert warned("x")


def test_a_fixed_batch_is_admitted_with_advice(given: Any) -> None:
    assert "dynamic batch" in given(proto([node("Relu")])).warnings[0]


def test_typed_data_of_every_width(given: Any) -> None:
    tensors = [
        numpy_helper.from_array(np.zeros((3, 5), dtype), f"w{i}")
        for i, dtype in enumerate(["f4", "f8", "f2", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", "c8", "c16"])
    ]
    tensors.append(helper.make_tensor("f", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    tensors.append(helper.make_tensor("l", TensorProto.INT64, [2], [-1, 1 << 40]))
    tensors.append(helper.make_tensor("d", TensorProto.DOUBLE, [2], [1.0, 2.0]))
    tensors.append(helper.make_tensor("h", TensorProto.FLOAT16, [2], [1.0, 2.0]))
    tensors.append(helper.make_tensor("n", TensorProto.INT4, [5], [1, -2, 3, -4, 5]))
    tensors.append(helper.make_tensor("nr", TensorProto.UINT4, [3], b"\x21\x03", raw=True))
    tensors.append(helper.make_tensor("z", TensorProto.COMPLEX64, [2], [1 + 1j, 2 + 0j]))
    assert given(proto([node("Relu")], weights=tensors)).parameters == 14 * 15 + 3 + 2 + 2 + 2 + 5 + 3 + 2


def test_local_functions_are_counted_where_they_are_called(given: Any) -> None:
    opset = helper.make_opsetid("", 20)
    twice = helper.make_function("mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [opset])
    nodes = [node("Twice", ["x"], ["t"], domain="mine"), node("Twice", ["t"], ["y"], domain="mine")]
    info = given(proto(nodes, domains=["mine"], functions=[twice]))
    assert info.operators == {"mine.Twice": 2}
    assert info.nodes == 2


def test_control_flow_sees_the_names_around_it(given: Any) -> None:
    branch = helper.make_graph([node("Relu", ["x"], ["b"])], "b", [], [value("b")])
    condition = node("If", ["c"], then_branch=branch, else_branch=branch)
    info = given(proto([condition], inputs=[value("x"), value("c", [], TensorProto.BOOL)]))
    assert info.operators == {"If": 1, "Relu": 2}


def test_a_large_but_sane_constant_is_admitted(given: Any) -> None:
    shape = numpy_helper.from_array(np.array([1024, 1024], np.int64), "s")
    info = given(
        proto([node("ConstantOfShape", ["s"])], inputs=[], outputs=[value("y", [1024, 1024])], weights=[shape])
    )
    assert info.nodes == 1


def test_microsoft_operators_are_admitted(given: Any) -> None:
    info = given(proto([node("Gelu", domain="com.microsoft")], domains=["com.microsoft"]))
    assert info.operators == {"com.microsoft.Gelu": 1}


def test_the_default_domain_has_two_names(given: Any) -> None:
    model = proto([node("Relu", domain="ai.onnx")])
    model.opset_import[0].domain = "ai.onnx"
    info = given(model)
    assert (info.opset, info.operators) == (20, {"Relu": 1})


def test_a_function_declares_the_domains_it_uses(given: Any) -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    body = helper.make_function("mine", "F", ["a"], ["b"], [node("Gelu", ["a"], ["b"], domain="com.microsoft")], opsets)
    info = given(proto([node("F", domain="mine")], domains=["mine"], functions=[body]))
    assert info.operators == {"mine.F": 1}


def test_external_tensors_may_share_a_file(tmp_path: Path) -> None:
    second = external("w.bin", offset="16")
    second.name = "v"
    model = referring(external("w.bin"), second)
    with zipfile.ZipFile(tmp_path / "bundle", "w") as archive:
        archive.writestr("m.onnx", model)
        archive.writestr("w.bin", b"\0" * 32)
    assert admit(tmp_path / "bundle").parameters == 8


def test_the_bytes_of_weights_are_not_read(given: Any) -> None:
    """Memory must not grow with the weights: the walker maps the file and steps over them."""
    import tracemalloc

    large = proto([node("Relu")], weights=[weight(dims=[1 << 24], raw=b"\0" * (1 << 26))]).SerializeToString()
    small = proto([node("Relu")], weights=[weight()]).SerializeToString()
    peaks = []
    for content in (small, large):
        tracemalloc.start()
        given(content)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


@pytest.mark.slow
def test_torchvision_resnet18(tmp_path: Path) -> None:
    import torch

    from tests.support.admission_networks import to_onnx
    from tests.support.vision import resnet18

    info = admit(to_onnx(resnet18(), (torch.randn(2, 3, 64, 64),), ({0: "batch"},), tmp_path))
    assert info.operators["Conv"] == 20
    assert info.signature.outputs[0].shape == (BATCH, 1000)
    assert info.parameters > 11_600_000


@pytest.mark.slow
def test_a_transformer_with_two_dynamic_dimensions(tmp_path: Path) -> None:
    import torch

    from tests.support.admission_networks import Transformer, to_onnx

    info = admit(to_onnx(Transformer(), (torch.randint(0, 50, (4, 8)),), ({0: "batch", 1: "length"},), tmp_path))
    ids = info.signature.inputs[0]
    assert (ids.dtype, ids.shape) == ("int64", (BATCH, Dimension(name="length")))
