"""Every hostile file gets an answer that is right, and nothing in it runs."""

from pathlib import Path

import pytest

from app.admission import AdmissionError, admit_dataset, admit_model
from app.spec.architecture import Architecture
from app.spec.data import DatasetSpec
from tests.support.hostile.corpus import Corpus, HostileFile, executed

GIB = 1 << 30
CLASSES = (
    "zip_",
    "tar_",
    "npz_",
    "npy_",
    "images_",
    "parquet_",
    "onnx_",
    "bundle_",
    "pt2_",
    "pickle_",
    "pth_",
    "st_",
    "keras_",
    "",
)


def refusal(file: HostileFile) -> AdmissionError | None:
    try:
        if file.kind == "dataset":
            admit_dataset(file.path, DatasetSpec(), max_inflated_bytes=20 * GIB)
        else:
            declared = None if file.architecture is None else Architecture.model_validate_json(file.architecture)
            admit_model(file.path, max_inflated_bytes=20 * GIB, architecture=declared)
    except AdmissionError as error:
        return error
    return None


def verdict(file: HostileFile) -> str:
    error = refusal(file)
    return "ok" if error is None else error.code


def expected(file: HostileFile) -> set[str]:
    """What admission may answer: a file that only a job can judge is let in."""
    return {"ok" if code.startswith(("worker.", "model.load_failed")) else code for code in file.codes}


@pytest.mark.parametrize("prefix", CLASSES)
def test_every_file_gets_a_right_answer(corpus: Corpus, prefix: str) -> None:
    _, files = corpus
    named = CLASSES[:-1]
    chosen = [f for f in files if (f.name.startswith(prefix) if prefix else not f.name.startswith(named))]
    answers = {file.name: verdict(file) for file in chosen}
    assert answers
    assert {f.name: (answers[f.name], set(f.codes)) for f in chosen if answers[f.name] not in expected(f)} == {}


def test_nothing_ran(corpus: Corpus) -> None:
    directory, files = corpus
    for file in files:
        verdict(file)
    assert executed(directory) == []


def test_details_are_one_bounded_line_without_the_path(corpus: Corpus) -> None:
    """They go to logs and pages, and some of their words come from the file."""
    for file in corpus[1]:
        error = refusal(file)
        if error is not None:
            assert error.detail.isprintable(), file.name
            assert len(error.detail) < 500, file.name
            assert file.path.name not in error.detail


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """The corpus proves nothing if its payloads would not run where they are not stopped."""
    import pickle

    from tests.support.hostile.payloads import Payloads

    pickle.loads(pickle.dumps(Payloads(tmp_path).call("live")))
    assert (tmp_path / "live").exists()
