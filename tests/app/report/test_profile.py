"""Where the time goes: the slowest operators in the page and in Markdown."""

import pytest

from app.report import figures
from app.report.html import render_html
from app.report.markdown import render_markdown
from app.spec.report import OperatorTime, Placement, Profile
from tests.support.reports import report, target

PROFILE = Profile(
    batch=4,
    threads=1,
    runs=20,
    operators=(
        OperatorTime(name="Convolution (NHWC, QC8) IGEMM", engine="XNNPACK", microseconds=150.0),
        OperatorTime(name="<b>softplus</b>", engine="portable", microseconds=50.0),
        *(OperatorTime(name=f"Copy {number}", engine="XNNPACK", microseconds=0.0) for number in range(20)),
    ),
)
PLACEMENT = Placement(operators={"convolution": 1, "softplus": 1}, integer=1, floating=0, fallback={"softplus": 1})


def test_the_slowest_come_first_with_their_share() -> None:
    assert [(one.engine, share) for one, share in figures.slowest(PROFILE)] == [("XNNPACK", 0.75), ("portable", 0.25)]


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_times_and_what_is_left_to_slower_kernels_are_shown(render) -> None:
    text = render(report(targets=(target(profile=PROFILE, placement=PLACEMENT),)))

    assert "Where the time goes" in text
    assert "mean of 20 calls at batch 4 on 1 thread: XNNPACK 150 µs, portable 50 µs" in text
    assert "150.0 µs" in text
    assert "<b>softplus</b>" not in text
    assert "Left to slower kernels: 1 softplus" in text


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_without_times_nothing_is_said_of_them(render) -> None:
    assert "Where the time goes" not in render(report(targets=(target(),)))
