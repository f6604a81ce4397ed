"""litert: artifacts are converted, run, timed and described by LiteRT itself."""

from collections.abc import Callable

import pytest

from tests.targets.conftest import Done, run_usage, toolchain
from tests.targets.networks import NAMES


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    toolchain("litert")


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
