"""What the toolchains know of a model's operators, asked through real jailed processes."""

from pathlib import Path

import numpy as np
import onnx
from onnx.helper import make_node

from app.spec.compatibility import Compatibilities, Compatibility
from app.spec.targets import OpenVinoTarget, Target
from tests.engine.compatibility.looks import fates, graph, order
from tests.targets.conftest import LIMITS, toolchain
from worker.runtime.supervise import Listeners, Workshop

WEIGHT = np.ones((4, 3, 3, 3), np.float32)


def asked(model: onnx.ModelProto, workshop: Workshop, directory: Path, *targets: Target) -> tuple[Compatibility, ...]:
    (directory / "order.json").write_text(order(model, directory, *targets).model_dump_json())
    outcome = workshop.run(directory, LIMITS, Listeners(), kind="compatibility")
    assert isinstance(outcome, Compatibilities), outcome
    return outcome.tables


def test_openvino_tells_what_it_does_not_read(workshop: Workshop, tmp_path: Path) -> None:
    toolchain("openvino")
    model = graph(
        make_node("Conv", ["x", "w"], ["a"], "conv"), make_node("Softplus", ["a"], ["b"], "soft"),
        make_node("MaxUnpool", ["b", "where"], ["c"], "unpool", kernel_shape=[2, 2]),
        make_node("Foo", ["c"], ["y"], domain="my.domain"), domains=["my.domain"], w=WEIGHT,
        where=np.zeros((1, 4, 6, 6), np.int64),
    )  # fmt: skip
    half, single = asked(model, workshop, tmp_path, OpenVinoTarget(precision="fp16"), OpenVinoTarget())

    assert fates(half) == fates(single) == {
        "Conv": {"supported": 1}, "Softplus": {"not quantizable": 1}, "MaxUnpool": {"unsupported": 1},
        "my.domain.Foo": {"unsupported": 1},
    }  # fmt: skip
    assert [table.target for table in (half, single)] == [OpenVinoTarget(precision="fp16"), OpenVinoTarget()]
    assert {row.source.split()[0] for row in single.operators if row.status == "unsupported"} == {"OpenVINO"}


def test_openvino_runs_what_it_reads(digits_folder: Path, workshop: Workshop, tmp_path: Path) -> None:
    toolchain("openvino")
    (table,) = asked(onnx.load(digits_folder / "digits.onnx"), workshop, tmp_path, OpenVinoTarget())

    assert table.refusal is None
    assert fates(table)["Conv"] == {"supported": 3}
    assert "unsupported" not in {row.status for row in table.operators}
