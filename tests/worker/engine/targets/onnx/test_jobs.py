"""onnx: what users deploy is exported, run by ONNX Runtime, and told how to be used."""

import subprocess
import sys
from collections.abc import Callable

import onnx
import pytest
from onnx import helper

from tests.support.networks import NAMES
from tests.support.target_jobs import Done
from worker.engine.errors import Unconvertible
from worker.engine.onnx_graph.file import default_opset
from worker.engine.onnx_graph.opsets import in_opset


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    exported = of_network(name, targets=[{"format": "onnx"}])

    (logits,) = exported.target("onnx/x86").parity
    assert logits.max_abs < 1e-4
    assert logits.sqnr_db is None or logits.sqnr_db > 80
    code = (exported.folder / "USAGE-onnx-x86.md").read_text().partition("```python\n")[2].partition("```")[0]
    command = [sys.executable, "-I", "-c", f"{code}\nprint(outputs[0].shape)"]
    ran = subprocess.run(command, cwd=exported.folder, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "(1, 10)"


def test_one_plan_suits_every_profile(done: Callable[..., Done]) -> None:
    profiles = ["x86", "x86-legacy", "arm", "tensorrt"]
    targets = [{"format": "onnx", "profile": profile} for profile in profiles]
    quantized = done(steps=[{"type": "quantize.static"}], targets=targets)

    for profile in profiles:
        (logits,) = quantized.target(f"onnx/{profile}").parity
        assert logits.top1_agreement is not None
        assert logits.top1_agreement >= 0.99


@pytest.mark.parametrize("steps", [[], [{"type": "quantize.static"}]], ids=["float", "int8"])
def test_every_opset_computes_the_same(steps: list[object], done: Callable[..., Done]) -> None:
    opsets = range(17, 22)
    exported = done("digits.pt2", steps=steps, targets=[{"format": "onnx", "opset": opset} for opset in opsets])

    results = [exported.target(f"onnx/x86-opset-{opset}").parity[0] for opset in opsets]
    assert len({result.max_abs for result in results}) == 1
    assert all(result.top1_agreement is not None and result.top1_agreement >= 0.99 for result in results)
    written = [onnx.load(exported.folder / f"model-onnx-x86-opset-{opset}.onnx") for opset in opsets]
    assert [default_opset(model) for model in written] == list(opsets)
    assert [model.ir_version for model in written] == [8, 8, 9, 9, 10]


def test_an_operator_that_an_opset_has_not_is_refused() -> None:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Gelu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])

    with pytest.raises(Unconvertible, match="opset 17"):
        in_opset(model, 17)
