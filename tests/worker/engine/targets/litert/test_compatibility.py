"""What LiteRT knows of a model's operators, asked through a jailed process."""

from pathlib import Path

import onnx
import pytest
import torch

from app.spec.targets import (
    LiteRtTarget,
)
from tests.support.engine.compatibility import Best, Running, Unusual, asked, asked_of_program
from tests.support.engine.looks import fates
from worker.runtime.job_sandbox import JobSandbox


@pytest.mark.toolchain("litert")
def test_litert_tells_what_it_has_no_lowering_of(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked_of_program(Unusual(), job_sandbox, tmp_path, LiteRtTarget())

    assert fates(table)["aten.special_bessel_j0.default"] == {"unsupported": 1}
    assert fates(table)["aten.relu.default"] == {"supported": 1}
    assert "bessel" in (table.refusal or "")
    assert "litert-torch" in table.operators[0].source


@pytest.mark.toolchain("litert")
def test_litert_shows_what_xnnpack_takes(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Running())
    (table,) = asked_of_program(module, job_sandbox, tmp_path, LiteRtTarget())

    assert table.refusal is None
    assert fates(table)["CONV_2D"] == {"supported": 1}
    assert fates(table)["CUMSUM"] == {"falls_back": 1}


@pytest.mark.toolchain("litert")
def test_litert_refuses_what_it_converts_and_cannot_load(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked_of_program(Best(), job_sandbox, tmp_path, LiteRtTarget())

    assert "STABLEHLO_SORT" in (table.refusal or "")


@pytest.mark.toolchain("litert")
def test_an_onnx_file_is_asked_about_as_a_program(digits_folder: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked(onnx.load(digits_folder / "digits.onnx"), job_sandbox, tmp_path, LiteRtTarget())

    assert table.refusal is None
    assert fates(table)["CONV_2D"] == {"supported": 2}
    assert fates(table)["FULLY_CONNECTED"] == {"supported": 2}
