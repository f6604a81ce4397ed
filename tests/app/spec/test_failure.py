"""A failure stands for any documented error, whatever the length of its texts."""

import runpy

from app.services.errors import WorkerLost
from app.spec.failure import MAX_DETAIL, MAX_REMEDY, Failure
from app.spec.report import TargetFailure
from app.spec.targets import OnnxTarget
from tests.support.root import ROOT

EVERY_ERROR = runpy.run_path(str(ROOT / "docs" / "errors.py"))["every_error"]


def test_every_documented_error_has_a_failure() -> None:
    for code, error in EVERY_ERROR().items():
        failure = Failure.of(error("It broke."))

        assert (failure.code, failure.detail, failure.remedy) == (code, "It broke.", error.remedy)


def test_long_texts_are_cut_to_what_a_failure_holds() -> None:
    failure = Failure.of(WorkerLost("d" * (MAX_DETAIL + 1), remedy="r" * (MAX_REMEDY + 1)))

    assert (len(failure.detail), len(failure.remedy)) == (MAX_DETAIL, MAX_REMEDY)


def test_a_failure_of_a_target_names_it() -> None:
    failure = TargetFailure.of(WorkerLost("It broke."), target=OnnxTarget())

    assert (failure.target, failure.code) == (OnnxTarget(), WorkerLost.code)
