"""executorch: files are converted, run, timed and described by ExecuTorch itself."""

from collections.abc import Callable

import pytest

from app.spec.report import Profile
from tests.support.networks import NAMES
from tests.support.target_jobs import Done, run_usage

EXECUTORCH = [{"format": "executorch"}]


pytestmark = pytest.mark.toolchain("executorch")


@pytest.mark.slow
def test_an_export_computes_the_same(done: Callable[..., Done]) -> None:
    exported = done(targets=EXECUTORCH, evaluate={"latency": {"batch": [4], "runs": 20, "budget_s": 1}})

    target = exported.target("executorch")
    assert target.runtime.startswith("ExecuTorch 1.")
    (logits,) = target.parity
    assert logits.max_abs < 1e-4
    assert logits.top1_agreement == 1
    assert target.metrics[0].drop == 0
    assert (target.placement.integer, target.placement.floating) == (0, 5)
    assert target.placement.fallback is not None
    assert any("up to 32 rows" in note for note in target.notes)
    _require_times(target.profile)
    assert [artifact.file for artifact in exported.result.artifacts] == [
        "model-executorch.pte",
        "model-executorch.pte.json",
        "USAGE-executorch.md",
    ]
    ending = "\nprint({name: tuple(tensor.shape) for name, tensor in outputs.items()})"
    assert run_usage(exported.folder, "executorch", "USAGE-executorch.md", ending) == "{'logits': (1, 10)}"


def _require_times(profile: Profile | None) -> None:
    """Of each operator, at the first batch size that was timed."""
    assert profile is not None
    assert (profile.batch, profile.threads) == (4, 1)
    convolutions = [one for one in profile.operators if one.name.startswith("Convolution")]
    assert len(convolutions) == 3
    assert all(one.engine == "XNNPACK" for one in convolutions)
    assert sum(one.microseconds for one in profile.operators) > 0


def test_a_static_plan_runs_on_integer_kernels_with_its_own_scales(done: Callable[..., Done]) -> None:
    targets = [{"format": "executorch", "batch": 5}, {"format": "onnx", "profile": "arm"}]
    quantized = done(steps=[{"type": "quantize.static"}], targets=targets)

    target, onnx = quantized.target("executorch/batch-5"), quantized.target("onnx/arm")
    assert (target.placement.integer, target.placement.floating) == (5, 0)
    assert target.size.ratio < 0.4
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99
    assert target.metrics[0].after == pytest.approx(onnx.metrics[0].after, abs=0.005), "one plan, two runtimes"
    assert target.profile is not None
    assert any("QC8" in one.name for one in target.profile.operators)
    assert any("up to 5 rows" in note for note in target.notes), "and more were run in several calls"


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    target = of_network(name, targets=EXECUTORCH).target("executorch")

    (logits,) = target.parity
    assert logits.max_abs < 1e-4
    assert logits.sqnr_db is not None
    assert logits.sqnr_db > 80


@pytest.mark.slow
def test_matrix_products_are_quantized_while_the_model_runs(of_network: Callable[..., Done]) -> None:
    target = of_network("small_vit", steps=[{"type": "quantize.dynamic"}], targets=EXECUTORCH).target("executorch")

    assert target.placement.integer == 9
    assert target.parity[0].sqnr_db is not None
    assert target.parity[0].sqnr_db > 25
    assert target.size.ratio < 0.6
