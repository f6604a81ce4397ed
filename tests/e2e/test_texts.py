"""A classifier of text learns from sentences in Parquet and is quantized, through the whole service and without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.spec.report import Report
from tests.support.installation.client import Client
from tests.support.installation.service import environment
from tests.support.root import ROOT
from tests.support.texts import REVIEW_JOB, REVIEW_SPEC, review_classifier, reviews

ROLES = ("train", "validation", "calibration", "test")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    review_classifier(folder / "classifier.pt2")
    reviews(folder / "reviews.zip")
    return folder


def require_learned(report: Report) -> None:
    (target,) = report.targets
    (top1,) = target.metrics
    assert top1.before < 0.75  # untrained
    assert top1.after > 0.98
    assert target.placement.integer > 0


def test_sentences_train_and_test_a_model_through_the_service(client: Client, files: Path) -> None:
    data = client.upload_dataset((files / "reviews.zip").read_bytes(), REVIEW_SPEC)
    model = client.upload_model((files / "classifier.pt2").read_bytes())
    job = client.submit({"model": model, "data": dict.fromkeys(ROLES, data)} | REVIEW_JOB)
    ended = client.wait(job)

    assert ended["status"] == "succeeded", ended["error"]
    require_learned(Report.model_validate_json(client.http.get(f"/jobs/{job}/report").content))


@pytest.mark.slow
def test_sentences_train_and_test_a_model_from_the_command_line(files: Path, tmp_path: Path) -> None:
    description = REVIEW_JOB | {
        "model": str(files / "classifier.pt2"),
        "datasets": {"reviews": REVIEW_SPEC | {"path": str(files / "reviews.zip")}},
        "data": dict.fromkeys(ROLES, "reviews"),
    }
    (tmp_path / "job.json").write_text(json.dumps(description))
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run", "job.json", "--out", "result"],
        cwd=tmp_path,
        env=environment({}) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (tmp_path / "result" / "report.json").exists(), done.stdout + done.stderr
    require_learned(Report.model_validate_json((tmp_path / "result" / "report.json").read_text()))
