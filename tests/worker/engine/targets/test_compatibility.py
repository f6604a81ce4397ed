"""What the toolchains know of a model's operators, asked through real jailed processes."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.helper import make_node

from app.admission import admit_model
from app.spec.compatibility import Compatibilities, Compatibility, CompatibilityOrder
from app.spec.targets import (
    CoreMlTarget,
    ExecuTorchTarget,
    LiteRtTarget,
    OnnxTarget,
    OpenVinoTarget,
    Target,
    TorchScriptTarget,
)
from app.spec.work import ModelFile
from tests.support.engine.looks import fates, graph, order
from tests.support.target_jobs import LIMITS, toolchain
from worker.runtime.job_sandbox import JobSandbox, Listeners

WEIGHT = np.ones((4, 3, 3, 3), np.float32)


def asked(
    model: onnx.ModelProto, job_sandbox: JobSandbox, directory: Path, *targets: Target
) -> tuple[Compatibility, ...]:
    return found(order(model, directory, *targets), job_sandbox, directory)


def found(wanted: CompatibilityOrder, job_sandbox: JobSandbox, directory: Path) -> tuple[Compatibility, ...]:
    (directory / "order.json").write_text(wanted.model_dump_json())
    outcome = job_sandbox.run(directory, LIMITS, Listeners(), kind="compatibility")
    assert isinstance(outcome, Compatibilities), outcome
    return outcome.tables


def test_openvino_tells_what_it_does_not_read(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("openvino")
    model = graph(
        make_node("Conv", ["x", "w"], ["a"], "conv"),
        make_node("Softplus", ["a"], ["b"], "soft"),
        make_node("MaxUnpool", ["b", "where"], ["c"], "unpool", kernel_shape=[2, 2]),
        make_node("Foo", ["c"], ["y"], domain="my.domain"),
        domains=["my.domain"],
        w=WEIGHT,
        where=np.zeros((1, 4, 6, 6), np.int64),
    )
    half, single = asked(model, job_sandbox, tmp_path, OpenVinoTarget(precision="fp16"), OpenVinoTarget())

    assert (
        fates(half)
        == fates(single)
        == {
            "Conv": {"supported": 1},
            "Softplus": {"not_quantizable": 1},
            "MaxUnpool": {"unsupported": 1},
            "my.domain.Foo": {"unsupported": 1},
        }
    )
    assert [table.target for table in (half, single)] == [OpenVinoTarget(precision="fp16"), OpenVinoTarget()]
    assert {row.source.split()[0] for row in single.operators if row.status == "unsupported"} == {"OpenVINO"}


def test_openvino_runs_what_it_reads(digits_folder: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("openvino")
    (table,) = asked(onnx.load(digits_folder / "digits.onnx"), job_sandbox, tmp_path, OpenVinoTarget())

    assert table.refusal is None
    assert fates(table)["Conv"] == {"supported": 3}
    assert "unsupported" not in {row.status for row in table.operators}


class Unusual(torch.nn.Module):
    """An operator that few runtimes have, behind one that all of them have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(torch.relu(image))


class Running(torch.nn.Module):
    """An operator that delegates leave to others."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(image.flatten(1), 1)


class Product(torch.nn.Module):
    """A product of two activations."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image @ image.mT


class Best(torch.nn.Module):
    """An operator that is converted to one that LiteRT's interpreter does not have."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.topk(image.flatten(1), 5).values


def asked_of_program(
    module: torch.nn.Module, job_sandbox: JobSandbox, directory: Path, *targets: Target
) -> tuple[Compatibility, ...]:
    """The same for a program with images of 3 x 8 x 8, as it is uploaded."""
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module.eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, directory / "model.pt2")
    info = admit_model(directory / "model.pt2", max_inflated_bytes=1 << 30)
    model = ModelFile(path="model.pt2", sha256="0" * 64, bytes=1, info=info)
    return found(CompatibilityOrder(model=model, targets=targets), job_sandbox, directory)


def test_litert_tells_what_it_has_no_lowering_of(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("litert")
    (table,) = asked_of_program(Unusual(), job_sandbox, tmp_path, LiteRtTarget())

    assert fates(table)["aten.special_bessel_j0.default"] == {"unsupported": 1}
    assert fates(table)["aten.relu.default"] == {"supported": 1}
    assert "bessel" in (table.refusal or "")
    assert "litert-torch" in table.operators[0].source


def test_litert_shows_what_xnnpack_takes(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("litert")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, LiteRtTarget())

    assert table.refusal is None
    assert fates(table)["CONV_2D"] == {"supported": 1}
    assert fates(table)["CUMSUM"] == {"falls_back": 1}


def test_litert_refuses_what_it_converts_and_cannot_load(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("litert")
    (table,) = asked_of_program(Best(), job_sandbox, tmp_path, LiteRtTarget())

    assert "STABLEHLO_SORT" in (table.refusal or "")


def test_coreml_tells_what_it_has_no_converter_for(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("coreml")
    (table,) = asked_of_program(Unusual(), job_sandbox, tmp_path, CoreMlTarget())

    assert fates(table)["aten.special_bessel_j0.default"] == {"unsupported": 1}
    assert fates(table)["aten.relu.default"] == {"supported": 1}
    assert "coremltools" in table.operators[0].source


def test_coreml_shows_what_it_converts(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("coreml")
    (table,) = asked_of_program(Running(), job_sandbox, tmp_path, CoreMlTarget())

    assert table.refusal is None
    assert fates(table)["cumsum"] == {"supported": 1}


def test_a_file_without_a_program_is_refused(digits_folder: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("litert")
    (table,) = asked(onnx.load(digits_folder / "digits.onnx"), job_sandbox, tmp_path, LiteRtTarget())

    assert table.operators == ()
    assert "no trainable graph" in (table.refusal or "")


def test_a_program_that_has_no_onnx_form_says_so(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    for table in asked_of_program(Unusual(), job_sandbox, tmp_path, OnnxTarget(), OnnxTarget(profile="arm")):
        assert "bessel_j0" in (table.refusal or "")


def test_torchscript_has_what_libtorch_registers(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, TorchScriptTarget())

    assert table.refusal is None
    assert fates(table)["aten::cumsum"] == {"supported": 1}
    assert {row.status for row in table.operators} == {"supported"}
    assert "LibTorch" in table.operators[0].source


def test_executorch_shows_what_xnnpack_takes(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    toolchain("executorch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Product(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, ExecuTorchTarget())

    assert table.refusal is None
    assert fates(table)["convolution"] == {"supported": 1}
    assert fates(table)["cumsum"] == {"falls_back": 1}
    assert "ExecuTorch" in table.operators[0].source
    assert table.notes == (
        "Not quantizable in the ONNX form: MatMul (1): Its weight is computed while the model runs.",
    )
