"""A job from files: the service's checks, jail and report, and nothing of its servers."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from app.errors import PareError
from app.settings import Settings
from app.spec.local import LocalModel, read_local
from app.spec.report import Report
from examples import digits
from tests.support.installation.service import environment
from tests.support.root import ROOT
from worker.runtime.local import refused, run_file

BRIEF = {"latency": {"batch": [1], "runs": 20, "budget_s": 0.2}}
SPLITS = {"train": 0.4, "calibration": 0.2, "test": 0.4}
PAGE = (ROOT / "docs" / "command-line.md").read_text()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of examples/digits.py, and rows named like the input of the program."""
    folder = tmp_path_factory.mktemp("files")
    torch.set_num_threads(1)
    model = digits.train_digits_cnn()
    digits.export_onnx(model, folder / "digits.onnx")
    digits.export_pt2(model, folder / "digits.pt2")
    digits.save_dataset(folder / "digits.npz")
    digits.save_dataset(folder / "rows.npz", name="input")
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path) -> Path:
    (tmp_path / "files").symlink_to(files)
    return tmp_path


def described(**changes: Any) -> dict[str, Any]:
    rows = {"path": "files/rows.npz", "splits": SPLITS, "preprocess": {"input": [{"type": "to_float"}]}}
    return {
        "model": "files/digits.pt2",
        "datasets": {"digits": rows},
        "data": {"train": "digits", "calibration": "digits", "test": {"dataset": "digits", "split": "test"}},
        "evaluate": BRIEF,
    } | changes


def run(folder: Path, job: object) -> subprocess.CompletedProcess[str]:
    (folder / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
    return subprocess.run(
        [sys.executable, "-m", "worker", "run", "job.json", "--out", "result"],
        cwd=folder,
        env=environment({}) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def report(folder: Path) -> Report:
    return Report.model_validate_json((folder / "result" / "report.json").read_text())


def test_a_chain_with_a_teacher_runs_from_files_to_files(folder: Path) -> None:
    steps = [
        {"type": "prune.channels", "ratio": 0.3},
        {"type": "distill", "teacher": "files/digits.onnx", "epochs": 1},
        {"type": "quantize.static"},
    ]
    done = run(folder, described(steps=steps))

    assert done.returncode == 0, done.stdout + done.stderr
    assert [step.type for step in report(folder).steps] == [step["type"] for step in steps]
    delivered = folder / "result" / report(folder).targets[0].artifact
    assert delivered.stat().st_size < 0.25 * (folder / "files" / "digits.onnx").stat().st_size
    assert onnx.load(delivered).graph.input[0].name == "input"
    assert (folder / "result" / "step-1-kept-channels.json").stat().st_size > 0
    assert "prune.channels" in done.stdout
    assert f"job: {report(folder).verdict.upper()}" in done.stdout
    assert "<html" in (folder / "result" / "report.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["files", "job.json", "result"]


def test_a_missed_limit_is_exit_code_one_and_the_artifact_is_there(folder: Path) -> None:
    limits = {"limits": {"min_speedup": 1000}}
    done = run(folder, described(steps=[{"type": "quantize.dynamic"}], evaluate=BRIEF | limits))

    assert done.returncode == 1
    assert done.stderr.startswith("limits.missed: ")
    assert (folder / "result" / report(folder).targets[0].artifact).exists()


def test_a_failed_job_leaves_its_log_and_what_its_last_step_made(folder: Path) -> None:
    steps = [
        {"type": "prune.channels", "ratio": 0.3},
        {"type": "finetune", "epochs": 2, "learning_rate": 10, "optimizer": "sgd", "momentum": 0.9},
    ]
    done = run(folder, described(steps=steps, seed=1) | {"evaluate": BRIEF})
    if done.returncode == 0:
        pytest.fail("the training was to diverge")

    assert "train.nan_loss" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {"log.txt", "step-1.pt2"} <= {path.name for path in (folder / "result").iterdir()}
    assert torch.export.load(folder / "result" / "step-1.pt2")
    assert "Traceback" in (folder / "result" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("{", "local.invalid: job.json is no JSON"),
        ("[]", "local.invalid: job.json holds no JSON object"),
        (described(steps=[{"type": "quantize.static", "observer": "no"}]), "local.invalid (/steps/0/observer): "),
        (described(steps=[], artifacts=["art_" + "0" * 32]), "local.invalid (/artifacts): Artifacts have ids in a"),
        (described(sneeds=1), "local.invalid (/sneeds): "),
        (described(datasets={"digits": {"splits": {}}}), "local.invalid (/datasets/digits/path): Field required"),
        (described(model="files/none.pt2"), "local.file_missing: There is no file "),
        (described(model="files/rows.npz"), "model.unsupported_format: "),
        (described(model="files/digits.onnx"), "data.mismatch (/data/calibration): The model needs an input 'image'"),
        (described(data={}, steps=[{"type": "finetune"}]), "step.needs_data (/steps/0): finetune"),
    ],
)
def test_what_the_service_would_refuse_is_one_line(folder: Path, job: object, words: str) -> None:
    (folder / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
    with pytest.raises(PareError) as caught:
        run_file(folder / "job.json", folder / "result", Settings())

    assert words in refused(caught.value)
    assert not (folder / "result").exists()


def test_a_refusal_is_one_line_and_exit_code_one(folder: Path) -> None:
    done = run(folder, described(model="files/none.pt2"))

    assert done.returncode == 1
    assert done.stderr.startswith("local.file_missing: There is no file files/none.pt2. ")
    assert len(done.stderr.splitlines()) == 1


def test_paths_and_names_become_ids_and_words_stay() -> None:
    local = read_local(
        {
            "model": "a.pt2",
            "models": {"base": {"path": "w.pth", "architecture": {"architecture": "torchvision:resnet18"}}},
            "data": {"train": "rows.npz", "test": "rows.npz"},
            "steps": [
                {"type": "distill", "teacher": "base"},
                {"type": "distill", "teacher": "input"},
                {"type": "distill", "teacher": "a.pt2"},
            ],
        }
    )

    files = {name: file.path for name, file in local.models.items()}
    assert [files.get(step.teacher, step.teacher) for step in local.spec.steps] == ["w.pth", "input", "a.pt2"]
    assert local.models[local.spec.model] == LocalModel(path="a.pt2")
    assert len(local.models) == 2
    assert [one.path for one in local.datasets.values()] == ["rows.npz"]


def test_an_unknown_field_of_a_declaration_is_named() -> None:
    with pytest.raises(ValidationError, match=r"datasets\.d\.shuffle"):
        read_local({"model": "a.pt2", "datasets": {"d": {"path": "rows.npz", "shuffle": True}}})


def snippet(name: str) -> str:
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found.group(1)


def test_the_documented_job_runs(folder: Path) -> None:
    done = run(folder, snippet("job"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert report(folder).verdict == "improved"


@pytest.mark.parametrize("name", ["step", "whole"])
def test_the_documented_python_runs(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "job.json").write_text(snippet("job"))
    check: dict[str, Callable[[], bool]] = {
        "step": lambda: (folder / "smaller.pt2").stat().st_size < 0.6 * (folder / "files/digits.pt2").stat().st_size,
        "whole": lambda: "improved" in capsys.readouterr().out,
    }
    exec(snippet(name), {})

    assert check[name]()
    assert np.load(folder / "files" / "digits.npz")["y"].size  # what was given is as it was
