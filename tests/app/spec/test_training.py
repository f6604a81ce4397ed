"""Parameters that would do nothing are refused, wherever a step has such."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.spec.steps import AnyStep
from app.spec.training import Training

STEP: TypeAdapter[Any] = TypeAdapter(AnyStep)


@pytest.mark.parametrize(
    ("step", "idle", "needs"),
    [
        ({"type": "finetune", "momentum": 0.5}, "momentum", "optimizer 'sgd'"),
        ({"type": "finetune", "decay_epochs": 5}, "decay_epochs", "schedule 'step'"),
        ({"type": "distill", "schedule": "constant", "decay_factor": 0.5}, "decay_factor", "schedule 'step'"),
        ({"type": "distill", "loss": "mse", "temperature": 2}, "temperature", "a loss of probabilities"),
        ({"type": "distill", "alpha": 1, "class_weights": "balanced"}, "class_weights", "labels to learn from"),
        ({"type": "distill", "alpha": 1, "label_smoothing": 0.1}, "label_smoothing", "labels to learn from"),
        ({"type": "quantize.aware", "alpha": 0.5}, "alpha", "a distance in distill"),
        ({"type": "quantize.aware", "outputs": "all"}, "outputs", "a distance in distill"),
        ({"type": "share_weights", "tune": {"momentum": 0.5}}, "momentum", "optimizer 'sgd'"),
    ],
)
def test_what_does_nothing_is_refused_by_name(step: dict[str, Any], idle: str, needs: str) -> None:
    with pytest.raises(ValidationError, match=f"{idle} does nothing here: it needs {needs}"):
        STEP.validate_python(step)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "finetune", "optimizer": "sgd", "momentum": 0.5},
        {"type": "finetune", "schedule": "step", "decay_epochs": 5, "decay_factor": 0.5},
        {"type": "distill", "loss": "kd", "temperature": 2, "label_smoothing": 0.1},
        {"type": "quantize.aware", "distill": "mse", "alpha": 0.5, "outputs": "all"},
    ],
)
def test_what_does_something_is_taken(step: dict[str, Any]) -> None:
    taken = STEP.validate_python(step)

    assert {name: getattr(taken, name) for name in step} == step


def test_a_step_that_was_written_with_all_its_defaults_is_read_again() -> None:
    for step in (Training(), STEP.validate_python({"type": "distill", "alpha": 1, "loss": "mse"})):
        assert type(step).model_validate_json(step.model_dump_json()) == step
