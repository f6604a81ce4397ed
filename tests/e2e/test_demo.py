"""`make demo`, against a service that runs: what it prints, what it leaves, and that it would say no."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from app.spec.report import Report
from tests.support.installation.service import environment
from tests.support.installation.serving import Stack
from tests.support.root import ROOT

SECONDS = 240


def demo(stack: Stack, output: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", "--url", stack.client.url, "--output", output],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_shows_a_real_gain_and_leaves_report_and_artifact(stack: Stack, tmp_path: Path) -> None:
    done = demo(stack, tmp_path / "out")

    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert report.verdict == "improved"
    assert report.targets[0].size.ratio <= 0.30
    assert report.targets[0].metrics[0].drop <= 0.003
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    for word in ("Size", "Top-1", "Latency p50", "IMPROVED"):
        assert word in done.stdout
    session = onnxruntime.InferenceSession(
        tmp_path / "out" / report.targets[0].artifact, providers=["CPUExecutionProvider"]
    )
    assert session.get_outputs()[0].name == "logits"


@pytest.mark.slow
def test_the_demo_fails_where_there_was_no_gain(stack: Stack, tmp_path: Path) -> None:
    # The same program with a bound that no int8 model meets.
    changed = tmp_path / "demo.py"
    changed.write_text(
        (ROOT / "examples" / "demo.py").read_text().replace("MAX_SIZE_RATIO = 0.30", "MAX_SIZE_RATIO = 0.1")
    )
    done = subprocess.run(
        [sys.executable, changed, "--url", stack.client.url, "--output", tmp_path / "out"],
        env=environment({}) | {"PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 1
    assert "Not good enough" in done.stderr
