"""`estimated` devices in a job's matrix."""

from pathlib import Path

from app.report import render_markdown
from tests.support.engine.digits_jobs import FAST, Heard, matrix, order_for
from worker.engine.job import run

PI = {"type": "estimated", "device": "raspberry-pi-4b"}


def test_digits_in_integers_on_a_pi(digits_folder: Path, tmp_path: Path) -> None:
    report = matrix(digits_folder, tmp_path, PI, {**PI, "threads": 1})

    four, one = report.targets[0].devices
    assert four.estimate is not None
    assert one.estimate is not None
    assert (four.provenance, four.latency, four.threads, one.threads) == ("estimated", None, 4, 1)
    assert four.estimate.family == "convolutional_int8"
    assert four.estimate.low_ms < four.estimate.p50_ms < four.estimate.high_ms
    assert four.estimate.networks == ("squeezenet", "googlenet", "resnet18", "vgg16", "resnet50")
    assert "was missed by" in four.notes[0]
    assert "lie outside of those of the published" in four.notes[1], "digits are a thousandth of the smallest"
    markdown = render_markdown(report)
    assert "Raspberry Pi 4 Model B" in markdown
    assert "≈" in markdown
    assert "github.com/Tencent/ncnn" in report.model_dump_json()


def test_integers_are_estimated_faster_than_floats(digits_folder: Path, tmp_path: Path) -> None:
    (quantized,) = matrix(digits_folder, tmp_path, PI).targets[0].devices
    plain = tmp_path / "plain"
    plain.mkdir()
    order = order_for(plain, digits_folder, "digits.onnx", evaluate={**FAST, "devices": [PI]})
    (floating,) = run(order, plain, Heard()).report.targets[0].devices

    assert floating.estimate is not None
    assert quantized.estimate is not None
    assert floating.estimate.family == "convolutional"
    assert floating.estimate.p50_ms > 0


def test_what_was_never_published_is_a_cell_with_its_reason(digits_folder: Path, tmp_path: Path) -> None:
    report = matrix(digits_folder, tmp_path, {"type": "estimated", "device": "jetson-nano-gpu"}, {"type": "local"})

    refused, here = report.targets[0].devices
    assert refused.failure is not None
    assert refused.failure.code == "device.not_fitted"
    assert here.latency is not None
