"""What coremltools knows of a model's operators, asked through a jailed process."""

from pathlib import Path

import pytest

from app.spec.targets import (
    CoreMlTarget,
)
from tests.support.engine.compatibility import Running, Unusual, asked_of_program
from tests.support.engine.looks import fates
from worker.runtime.job_sandbox import JobSandbox


@pytest.mark.toolchain("coreml")
def test_coreml_tells_what_it_has_no_converter_for(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked_of_program(Unusual(), job_sandbox, tmp_path, CoreMlTarget())

    assert fates(table)["aten.special_bessel_j0.default"] == {"unsupported": 1}
    assert fates(table)["aten.relu.default"] == {"supported": 1}
    assert "coremltools" in table.operators[0].source


@pytest.mark.toolchain("coreml")
def test_coreml_shows_what_it_converts(job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked_of_program(Running(), job_sandbox, tmp_path, CoreMlTarget())

    assert table.refusal is None
    assert fates(table)["cumsum"] == {"supported": 1}
