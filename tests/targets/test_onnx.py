"""onnx: what users deploy is exported, run by ONNX Runtime, and told how to be used."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.targets.conftest import Done
from tests.targets.networks import NAMES


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
