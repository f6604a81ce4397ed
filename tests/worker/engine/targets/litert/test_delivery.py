"""litert: artifacts are converted, run, timed and described by LiteRT itself."""

from collections.abc import Callable

import pytest

from tests.support.networks import NAMES
from tests.support.target_jobs import Done, run_usage

pytestmark = pytest.mark.toolchain("litert")


def test_an_export_computes_the_same(done: Callable[..., Done]) -> None:
    exported = done(targets=[{"format": "litert"}])

    target = exported.target("litert")
    assert target.runtime.startswith("LiteRT 2.")
    (logits,) = target.parity
    assert logits.max_abs < 1e-4
    assert logits.top1_agreement == 1
    assert target.metrics[0].drop == 0
    assert (target.placement.integer, target.placement.floating) == (0, 5)
    assert target.placement.fallback == {}, "XNNPACK takes all of it"
    assert any("1 row" in note for note in target.notes)
    assert [artifact.file for artifact in exported.result.artifacts] == ["model-litert.tflite", "USAGE-litert.md"]
    ending = "\nprint({name: array.shape for name, array in outputs.items()})"
    assert run_usage(exported.folder, "litert", "USAGE-litert.md", ending) == "{'logits': (1, 10)}"


def test_a_file_for_several_rows_takes_them_at_once(done: Callable[..., Done]) -> None:
    target = done(targets=[{"format": "litert", "batch": 16}]).target("litert/batch-16")

    assert target.parity[0].max_abs < 1e-4
    assert target.metrics[0].drop == 0, "the last batch is filled up, and cut again"


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_the_same(name: str, of_network: Callable[..., Done]) -> None:
    (logits,) = of_network(name, targets=[{"format": "litert"}]).target("litert").parity

    assert logits.max_abs < 1e-4
    assert logits.sqnr_db is not None
    assert logits.sqnr_db > 80


def test_a_static_plan_is_all_integers(done: Callable[..., Done]) -> None:
    quantized = done(steps=[{"type": "quantize.static"}], targets=[{"format": "litert"}, {"format": "onnx"}])

    target, other = quantized.target("litert"), quantized.target("onnx/x86")
    assert (target.placement.integer, target.placement.floating) == (5, 0)
    assert target.placement.fallback == {}
    assert "DEQUANTIZE" not in target.placement.operators
    assert target.size.ratio < 0.35
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99
    assert target.metrics[0].after == pytest.approx(other.metrics[0].after, abs=0.005), "one plan, two runtimes"
    ending = "\nprint({name: (array.shape, str(array.dtype)) for name, array in outputs.items()})"
    printed = run_usage(quantized.folder, "litert", "USAGE-litert.md", ending)
    assert printed == "{'logits': ((1, 10), 'float32')}"


def test_a_dynamic_plan_has_integer_weights(done: Callable[..., Done]) -> None:
    target = done(steps=[{"type": "quantize.dynamic"}], targets=[{"format": "litert"}]).target("litert")

    assert target.placement.integer == 2, "the two matrix products"
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.99


@pytest.mark.slow
def test_a_transformer_runs_on_integer_kernels(of_network: Callable[..., Done]) -> None:
    quantized = of_network("small_vit", steps=[{"type": "quantize.dynamic"}], targets=[{"format": "litert"}])

    target = quantized.target("litert")
    assert target.placement.integer == 9, "the patches' convolution stays in floating point, as planned"
    assert target.parity[0].sqnr_db is not None
    assert target.parity[0].sqnr_db > 20


@pytest.mark.parametrize(("bits", "most"), [("int8", 0.3), ("int4", 0.18)])
def test_stored_weights_are_packed(bits: str, most: float, done: Callable[..., Done]) -> None:
    step = {"type": "quantize.weights", "weights": bits, "symmetric": True, "block": 65_536}
    target = done(steps=[step], targets=[{"format": "litert"}]).target("litert")

    assert target.size.ratio < most
    assert target.placement.integer == 4, "the first layer is too small to be worth it"
    assert target.parity[0].top1_agreement is not None
    assert target.parity[0].top1_agreement >= 0.98
