"""A step or target of the contract has exactly one implementation."""

from typing import get_args

import pytest

from app.spec.job import AnyStep
from app.spec.quantize import QuantizeStatic
from app.spec.targets import TARGETS, Target
from worker.engine import passes, targets


def test_every_step_is_implemented_once() -> None:
    assert set(passes.implementations()) == set(get_args(get_args(AnyStep)[0]))
    with pytest.raises(ValueError, match="twice"):
        passes.implements(QuantizeStatic)(lambda step, model, context: None)


def test_every_target_is_delivered_once() -> None:
    declared = set(get_args(get_args(Target)[0]))
    assert set(targets.implementations()) == declared == set(TARGETS)
    with pytest.raises(ValueError, match="twice"):
        targets.delivers(next(iter(declared)))(lambda target, model, site: iter(()))
