"""The device matrix in every form of the report."""

import pytest
from pydantic import ValidationError

from app.report import render_html, render_markdown, render_table
from app.spec.device_report import DeviceFacts, DeviceRun
from app.spec.devices import LocalDevice
from app.spec.failure import Failure
from app.spec.figures import MetricChange
from app.spec.targets import OnnxTarget
from tests.support.reports import distribution, report, target

LOSS = MetricChange(
    metric="top1", before=0.978, after=0.940, rows=450, resolution=1 / 450, drop=0.038, drop_low=0.02, drop_high=0.06
)
LOCAL = DeviceRun(
    device=LocalDevice(),
    provenance="measured",
    runtime="ONNX Runtime 1.31.1",
    size_bytes=12_400_000,
    threads=2,
    batch=1,
    latency=distribution(0.8, 0.05, 2),
    metrics=(LOSS,),
    rows=450,
    agreement=0.5,
    agreement_original=0.993,
    fallback={"Gemm": 1},
    facts=DeviceFacts(cpu="Xeon", governor="performance", load_average=(0.1, 0.2)),
    notes=("Timed on 2 threads.",),
)
BROKEN = DeviceRun(
    device=LocalDevice(threads=4),
    provenance="measured",
    failure=Failure(code="device.failed", detail="It <b>burnt|</b>.", remedy="Cool it."),
)
MATRIX = report(targets=(target(devices=(LOCAL, BROKEN)),))


def test_every_form_shows_every_figure() -> None:
    assert LOCAL.latency is not None
    for render in (render_html, render_markdown, render_table):
        shown = render(MATRIX)
        for figure in ("This worker", "12.4 MB", "top-1 94.0 %", "99.3 %", "1 Gemm", "measured", "Timed on 2 threads"):
            assert figure in shown, (render.__name__, figure)
        assert "Cool it." in shown
        assert "drop 3.8 points" in shown
        assert "50.0 % as on the worker" in shown
        assert "governor performance" in shown


def test_reasons_are_text() -> None:
    assert "It &lt;b&gt;burnt" in render_html(MATRIX)
    assert "\\<b\\>burnt\\|" in render_markdown(MATRIX)


def test_a_note_on_several_artifacts_is_told_once() -> None:
    arm = target(target=OnnxTarget(profile="arm"), devices=(LOCAL,))

    shown = render_markdown(report(targets=(target(devices=(LOCAL,)), arm)))

    assert shown.count("Timed on 2 threads") == 1
    assert "This worker, ONNX for x86, ONNX for arm: Timed on 2 threads." in shown


def test_a_report_without_devices_has_no_matrix() -> None:
    assert "Devices" not in render_markdown(report())
    assert 'id="devices"' not in render_html(report())


def test_a_time_that_nobody_took_cannot_be_written() -> None:
    with pytest.raises(ValidationError, match="a latency is measured, this device is emulated"):
        DeviceRun(device=LocalDevice(), provenance="emulated", latency=LOCAL.latency)
