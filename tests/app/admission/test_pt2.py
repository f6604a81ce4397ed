"""Programs that torch.export.save wrote are admitted and described as they are."""

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from app.admission import AdmissionError, admit_model
from app.spec.signature import Dimension, ModelInfo, TensorSpec
from tests.support import admission_networks as nets

GIB = 1 << 30
DYNAMIC = torch.export.Dim.DYNAMIC
AUTO = torch.export.Dim.AUTO


def admit(path: Path) -> ModelInfo:
    return admit_model(path, max_inflated_bytes=GIB)


def test_a_cnn_with_a_bounded_batch(exported: Any) -> None:
    batch = torch.export.Dim("batch", min=4, max=64)
    net = nets.Cnn().eval()
    info = admit(exported("cnn", net, torch.randn(4, 1, 8, 8), dynamic_shapes=({0: batch},)))
    (image,), (scores,) = info.signature.inputs, info.signature.outputs
    size = image.shape[0]
    assert isinstance(size, Dimension)
    assert (size.min, size.max) == (4, 64)
    assert image == TensorSpec(name="x", dtype="float32", shape=(size, 1, 8, 8))
    assert (scores.dtype, scores.shape) == ("float32", (size, 10))
    assert info.format == "pt2"
    assert info.parameters == sum(p.numel() for p in net.parameters())
    assert info.operators["aten.conv2d.default"] == 1
    assert info.nodes == sum(info.operators.values())
    assert info.warnings == ()


def test_a_batch_without_bounds_may_be_one(exported: Any) -> None:
    info = admit(exported("any_batch", nets.Recurrent().eval(), torch.randn(2, 6, 5), dynamic_shapes=({0: DYNAMIC},)))
    size = info.signature.inputs[0].shape[0]
    assert isinstance(size, Dimension)
    assert (size.min, size.max) == (1, None)


def test_a_transformer_with_guards_and_tied_weights(exported: Any) -> None:
    net = nets.Transformer().eval()
    ids = torch.randint(0, 50, (4, 8))
    path = exported("transformer", net, ids, dynamic_shapes={"ids": {0: AUTO, 1: AUTO}})
    with zipfile.ZipFile(path) as archive:
        assert b"L['ids'].size()" in archive.read("transformer/models/model.json")
    info = admit(path)
    assert info.signature.inputs[0].dtype == "int64"
    assert len({size.name for size in info.signature.inputs[0].shape if isinstance(size, Dimension)}) == 2
    assert len(info.signature.outputs) == 2
    assert info.parameters == sum(p.numel() for p in net.parameters())


def test_control_flow_and_sizes_that_depend_on_data(exported: Any) -> None:
    info = admit(exported("branching", nets.Branching(), torch.randn(2, 3), dynamic_shapes=({0: DYNAMIC},)))
    assert info.operators["higher_order.cond"] == 1
    assert info.operators["aten.sin.default"] == 1
    assert isinstance(info.signature.outputs[1].shape[0], Dimension)


def test_a_fixed_batch_is_admitted_with_advice(exported: Any) -> None:
    info = admit(exported("fixed", nets.Cnn().eval(), torch.randn(1, 1, 8, 8)))
    assert info.signature.inputs[0].shape == (1, 1, 8, 8)
    assert ["dynamic_shapes" in warning for warning in info.warnings] == [True]


def test_training_mode_is_admitted_with_advice(exported: Any) -> None:
    info = admit(exported("train", nets.Cnn().train(), torch.randn(4, 1, 8, 8), dynamic_shapes=({0: DYNAMIC},)))
    assert ["model.eval()" in warning for warning in info.warnings] == [True]


def test_sample_inputs_of_many_shapes_are_harmless(exported: Any) -> None:
    class Nested(torch.nn.Module):
        def forward(
            self, pair: tuple[torch.Tensor, list[torch.Tensor]], *, by: dict[str, torch.Tensor]
        ) -> torch.Tensor:
            return pair[0] + pair[1][0] * by["key"]

    one = torch.randn(4, 3)
    info = admit(exported("nested", Nested(), (one[::2], [one.T.contiguous().T[:2]]), kwargs={"by": {"key": one[:2]}}))
    assert [spec.shape for spec in info.signature.inputs] == [(2, 3)] * 3


def test_an_input_that_is_a_number_is_refused(exported: Any) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
            return x * factor

    with pytest.raises(AdmissionError) as refused:
        admit(exported("scaled", Scaled(), torch.randn(2, 3), 3))
    assert refused.value.code == "model.unsupported_type"


def test_half_precision_and_a_view_of_a_larger_storage(exported: Any) -> None:
    class View(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(6, 4, dtype=torch.bfloat16)[1:4])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.T

    info = admit(exported("view", View(), torch.randn(2, 4, dtype=torch.bfloat16), dynamic_shapes=({0: DYNAMIC},)))
    assert info.signature.inputs[0].dtype == "float32"
    assert any("values in bfloat16: it is worked on in float32" in warning for warning in info.warnings)
    assert info.parameters == 12


def test_torchvision_resnet18(exported: Any) -> None:
    from tests.support.vision import resnet18

    path = exported("resnet18", resnet18().eval(), torch.randn(2, 3, 64, 64), dynamic_shapes=({0: DYNAMIC},))
    info = admit(path)
    assert info.parameters == 11_689_512
    assert info.operators["aten.conv2d.default"] == 20
    assert info.signature.outputs[0].shape[1] == 1000


def test_admission_needs_neither_torch_nor_onnx(tmp_path: Path, exported: Any) -> None:
    import subprocess

    path = exported("bare", nets.Cnn().eval(), torch.randn(2, 1, 8, 8), dynamic_shapes=({0: DYNAMIC},))
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from pathlib import Path\nfrom app.admission import admit_model\n"
        f"print(admit_model(Path({str(path)!r}), max_inflated_bytes=1 << 30).parameters)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(p.numel() for p in nets.Cnn().parameters())


def test_an_upload_is_judged_by_content(tmp_path: Path, exported: Any) -> None:
    program = exported("named", nets.Cnn().eval(), torch.randn(2, 1, 8, 8), dynamic_shapes=({0: DYNAMIC},))
    renamed = tmp_path / "weights.onnx"
    renamed.write_bytes(program.read_bytes())
    assert admit(renamed).format == "pt2"


def test_the_file_may_be_no_larger_than_allowed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    path = tmp_path / "m.pt2"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(AdmissionError) as refused:
        admit_model(path, max_inflated_bytes=50)
    assert refused.value.code == "model.too_large"


def test_an_input_of_size_0_is_refused(exported: Any) -> None:
    path = exported("empty", torch.nn.Linear(4, 2), torch.randn(0, 4))
    with pytest.raises(AdmissionError) as refused:
        admit(path)
    assert refused.value.code == "model.unsupported_type"
