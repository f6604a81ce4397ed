"""What OpenVINO knows of a model's operators, asked through a jailed process."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from app.spec.targets import (
    OpenVinoTarget,
)
from tests.support.engine.compatibility import WEIGHT, asked
from tests.support.engine.looks import fates, graph
from worker.runtime.job_sandbox import JobSandbox


@pytest.mark.toolchain("openvino")
def test_openvino_tells_what_it_does_not_read(job_sandbox: JobSandbox, tmp_path: Path) -> None:
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


@pytest.mark.toolchain("openvino")
def test_openvino_runs_what_it_reads(digits_folder: Path, job_sandbox: JobSandbox, tmp_path: Path) -> None:
    (table,) = asked(onnx.load(digits_folder / "digits.onnx"), job_sandbox, tmp_path, OpenVinoTarget())

    assert table.refusal is None
    assert fates(table)["Conv"] == {"supported": 3}
    assert "unsupported" not in {row.status for row in table.operators}
